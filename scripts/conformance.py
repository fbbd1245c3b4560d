#!/usr/bin/env python3
"""ONNX's own tests (2033 in onnx 1.23.2) through compile, artifact, load and run; see docs/conformance.md.

    scripts/conformance.py                                     all tests; 1 if one crashed or ran out of time
    scripts/conformance.py --only 'test_reduce_.*'             those whose name matches
    scripts/conformance.py --results FILE --resume             keep results as they come; go on where it stopped
    scripts/conformance.py --engine onnxruntime|tract          the same tests on another engine
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  (makes onnxkiln importable)
from conformance_check.cases import load_cases
from conformance_check.engines import ENGINES
from conformance_check.one_case import CRASH, ERROR, PASSED, TIMEOUT, run_case
from conformance_check.report import format_failure, format_failures, format_summary, summarise
from conformance_check.server import run_all
from onnxkiln.commands.output import print_json

SAID_EVERY = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests; 1 if one crashed, raised what it should not, ran out of time, or too few passed."""
    options = _parser().parse_args(arguments)
    results = _run(options)
    if options.failures:
        title = f"# {format_summary(results)}\n\n"
        options.failures.write_text(title + format_failures(results), encoding="utf-8")
    if options.json:
        print_json({"engine": options.engine, **summarise(results), "results": results})
    else:
        print(format_summary(results))
    counts = summarise(results)["outcomes"]
    broken = counts[CRASH] + counts[TIMEOUT] + counts[ERROR] + sum(len(result["external"]) for result in results)
    return 1 if broken or counts[PASSED] < options.require else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="onnxkiln", choices=sorted(ENGINES))
    parser.add_argument("--only", metavar="PATTERN", help="tests whose name matches this regular expression")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default: 2)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="seconds for one test (default: 60)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write each result to FILE as it comes")
    parser.add_argument("--resume", action="store_true", help="keep what --results holds and run the rest")
    parser.add_argument("--failures", type=Path, metavar="FILE", help="write the failures by operator, as Markdown")
    parser.add_argument("--require", type=int, default=0, metavar="N", help="fail if fewer than N tests pass")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def _run(options: argparse.Namespace) -> list[dict[str, Any]]:
    results = _earlier(options.results) if options.resume and options.results else []
    known = {result["name"] for result in results}
    cases = [case for case in load_cases(options.only) if case.name not in known]
    engine = ENGINES[options.engine]()
    if options.results and not options.resume:
        options.results.write_text("", encoding="utf-8")
    for result in run_all(cases, lambda case: run_case(engine, case), options.jobs, options.limit):
        results.append(result)
        if options.results:
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        if not options.json:
            _say(result, len(results), len(known) + len(cases))
    return results


def _earlier(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half a line


def _say(result: dict[str, Any], done: int, total: int) -> None:
    if result["outcome"] != PASSED:
        print(format_failure(result), flush=True)
    if done % SAID_EVERY == 0:
        print(f"{done} of {total} done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
