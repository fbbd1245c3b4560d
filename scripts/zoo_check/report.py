"""Results of ``check_model`` as a table, with the words of every failure under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxkiln.commands.output import format_table
from zoo_check.check import MOST_RATIO

HEADER = ("model", "compile s", "peak MB", "cases", "refused", "worst", "ms", "ORT ms", "ratio", "result")
LEGEND = (
    "cases: runs that agree with ONNX Runtime; refused: sizes that ONNX Runtime itself refuses; "
    "worst: largest share of the tolerance used up"
)


def format_results(results: Sequence[dict[str, Any]]) -> str:
    """The table, its legend, and what went wrong."""
    lines = [format_table(HEADER, map(_row, results)), LEGEND]
    for result in results:
        lines += [f"{result['model']}: {words}" for words in _failures(result)]
    return "\n".join(lines)


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    compiled, latency = result.get("compile"), result.get("latency")
    cases = result.get("cases", [])
    compared = [case for case in cases if "problems" in case]
    agreeing = [case for case in compared if not case["problems"]]
    used = [case["used"] for case in compared if case["used"] is not None]
    return (
        result["model"],
        f"{compiled['seconds']:.1f}" if compiled else "-",
        f"{compiled['peak_bytes'] / 1e6:.0f}" if compiled else "-",
        f"{len(agreeing)} of {len(compared)}",
        str(len(cases) - len(compared)),
        f"{max(used):.2g}" if used else "-",
        f"{latency['ms']:.2f}" if latency else "-",
        f"{latency['onnxruntime_ms']:.2f}" if latency else "-",
        f"{latency['ratio']:.2f}" if latency else "-",
        "passed" if result["passed"] else "FAILED",
    )


def _failures(result: dict[str, Any]) -> list[str]:
    words = [result["failure"]] if "failure" in result else []
    if not result["passed"] and "compile" in result and result["compile"]["seconds"] > result["limit_s"]:
        words.append(f"compiling took {result['compile']['seconds']:.0f} s, the limit is {result['limit_s']:.0f} s")
    words += [f"{name} is left as scalar loops" for name in result.get("compile", {}).get("scalar", [])]
    ratio = result.get("latency", {}).get("ratio", 0.0)
    if ratio > MOST_RATIO:
        words.append(f"{ratio:.1f} times ONNX Runtime's time, the limit is {MOST_RATIO:.0f} times")
    own = [case["own"] for case in result.get("cases", []) if "own" in case]
    if own:
        words.append(f"rounds its activations; ONNX Runtime's optimized run is {max(own):.2g} away in relative RMS")
    for case in result.get("cases", []):
        words += [f"{case['case']}: {problem}" for problem in case.get("problems", [])]
        if "refused" in case:
            words.append(f"{case['case']}: refused by ONNX Runtime: {case['refused'][:100]} ...")
    return words
