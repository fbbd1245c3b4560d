"""The results of many models in one table: each engine's time, and how near ours is to what the machine could do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxkiln.benchmarking.engines import ENGINES, OURS
from onnxkiln.benchmarking.report import HEADER
from onnxkiln.benchmarking.report import LEGEND as ENGINE_LEGEND
from onnxkiln.commands.output import format_table

Result = Mapping[str, Any]

LEGEND = (
    "ms: p50 of a run, medians over fresh processes; ratio: the engine's time in multiples of onnxkiln's, side by side",
    "limit: the time that this machine's arithmetic or memory, measured, would need for the model's products and "
    "convolutions (done directly: Winograd can pass it); of limit: that time as a share of onnxkiln's",
)


def limit_ms(result: Result) -> tuple[float, str]:
    """The least milliseconds that arithmetic or reading the weights needs, and which of them it is."""
    limits = result["limits"]
    arithmetic = limits["flops"] / limits["gflops"] / 1e6
    memory = limits["weight_bytes"] / limits["gbytes"] / 1e6
    return (arithmetic, "arithmetic") if arithmetic >= memory else (memory, "memory")


def header(results: Sequence[Result]) -> list[str]:
    """The columns: those of all engines that one of the results names."""
    peers = [f"{ENGINES[name].title} {what}" for name in _peers(results) for what in ("ms", "ratio")]
    return ["model", "threads", "onnxkiln ms", *peers, "MB memory", "ms to load", "limit ms", "of limit", "bound by"]


def cells(results: Sequence[Result]) -> list[list[str]]:
    """A line for each result."""
    return [_line(result, _peers(results)) for result in results]


def _peers(results: Sequence[Result]) -> list[str]:
    used = {entry["engine"] for result in results for entry in result["report"]["entries"]}
    return [name for name in ENGINES if name in used and name != OURS]


def _line(result: Result, peers: Sequence[str]) -> list[str]:
    found = {entry["engine"]: entry["measured"] for entry in result["report"]["entries"]}
    ours = found[OURS]
    limit, which = limit_ms(result)
    line = [result["model"], str(result["settings"]["threads"]), _ms(ours["p50"])]
    for name in peers:
        measured = found.get(name)
        line += ["-", "-"] if measured is None else [_ms(measured["p50"]), f"{measured['ratio']:.2f}"]
    line += [f"{ours['pss'] / 1e6:.0f}", f"{ours['load_ms']:.0f}"]
    return [*line, _ms(limit), f"{limit / ours['p50']:.0%}", which]


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _notes(results: Sequence[Result]) -> list[str]:
    """Why an engine has no figure, or figures of other outputs than ours."""
    notes = []
    for result in results:
        for entry in result["report"]["entries"]:
            problem = entry["measured"]["problem"] if entry["measured"] else entry["words"]
            if problem:
                notes.append(f"{result['model']}, {ENGINES[entry['engine']].title}: {problem}")
    return notes


def format_all(results: Sequence[Result]) -> str:
    """The table with legend and notes."""
    return "\n".join([_machine(results), format_table(header(results), cells(results)), *LEGEND, *_notes(results)])


def to_markdown(results: Sequence[Result]) -> str:
    """The same as Markdown, and after it each model's own table, with every engine's memory, load time and size."""
    titles = header(results)
    table = _markdown([titles, ["---"] + ["---:"] * (len(titles) - 2) + ["---"], *cells(results)])
    parts = [f"{_machine(results)}.", table, *LEGEND, *_notes(results)]
    for result in results:
        rule = ["---"] * 2 + ["---:"] * (len(HEADER) - 2)
        parts += [f"## {result['model']}", result["headline"], _markdown([HEADER, rule, *result["cells"]])]
    return "\n\n".join([*parts, ENGINE_LEGEND]) + "\n"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(results: Sequence[Result]) -> str:
    machine = results[0]["report"]["machine"]
    return f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['isa']}"
