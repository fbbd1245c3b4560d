"""``onnxkiln tune``: measure a model's kernels into the tuning log, without compiling it."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from ..shapes import parse_shapes
from .options import add_log_options
from .output import format_table, print_json
from .tuning_display import TuningDisplay, format_seconds
from .tuning_report import ReportRecorder, both


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "tune",
        parents=[common],
        allow_abbrev=False,
        help="measure a model's kernels into the tuning log",
        description="Measure candidates for the kernels of MODEL into the tuning log, from where it was left. Every "
        "build of a model with such kernels uses what was found. Interrupted, it keeps what it measured.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    parser.add_argument("--target", default="cpu", help="the machine to tune for; cpu is this one (default: cpu)")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=DIMS", help="the shape of an input, as for compile"
    )
    parser.add_argument("--level", default="O2", choices=["O1", "O2", "O3"], help="as for compile (default: O2)")
    parser.add_argument(
        "--budget",
        metavar="BUDGET",
        help="60s, 15m or 200t (trials) for each target (default: until nothing more is expected)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="measure nothing: list the kernels, and what the log knows of them"
    )
    parser.add_argument(
        "--rpc",
        metavar="HOST:PORT,KEY",
        help="measure on the servers that TVM's tracker at HOST:PORT has under KEY, in place of this machine",
    )
    add_log_options(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    shapes = parse_shapes(options.shape)
    from ..compiler import tune
    from ..tuning.budget import Budget, parse_budget
    from ..tuning.rpc import parse_rpc

    rpc = None if options.rpc is None else parse_rpc(options.rpc)
    budget = None
    if not options.dry_run:
        budget = Budget(seconds=math.inf) if options.budget is None else parse_budget(options.budget)
    report = ReportRecorder(options.report, options.model, options.target, options.budget)
    with TuningDisplay(sys.stderr.isatty() and not options.json) as display:
        try:
            results = tune(
                options.model,
                target=options.target,
                shapes=shapes or None,
                level=options.level,
                budget=budget,
                log=options.log,
                shipped_log=not options.no_shipped_log,
                seed=options.seed,
                observer=both(display.show, report.show),
                rpc=rpc,
            )
        except KeyboardInterrupt:
            display.close()
            print(
                f"onnxkiln: {display.measurements} measurements are in the log; the same command goes on from there",
                file=sys.stderr,
            )
            raise
    for _, tuned in results:
        report.write(tuned, options.log)
    if options.json:
        print_json({"targets": [_to_json(target, tuned) for target, tuned in results]})
        return 0
    for target, tuned in results:
        print(f"{target.name} ({target.isa.name})")
        print(_table(tuned))
        if options.dry_run:
            known = sum(one.source != "default" for one in tuned.chosen)
            print(f"{len(tuned.chosen)} kernels to tune; the log knows {known} of them")
        else:
            print(_summary(tuned))
    return 0


def _to_json(target: Any, tuned: Any) -> dict[str, Any]:
    return {
        "target": target.name,
        "isa": target.isa.name,
        "measurements": tuned.measurements,
        "log_hits": tuned.log_hits,
        "ranked_by_a_model": list(tuned.learnt),
        "tasks": [
            {
                **one.to_json(), "calls": one.task.calls, "candidates": len(one.task.choices.candidates),
                "flops": one.task.flops, "bytes": one.task.nbytes, "seconds": one.seconds, "share": share,
            }
            for one, share in zip(tuned.chosen, _shares(tuned))
        ],
    }  # fmt: skip


def _shares(tuned: Any) -> list[float]:
    """Of the time that all these kernels take; where nothing was measured, by their work."""
    times = [one.task.calls * one.expected_seconds for one in tuned.chosen]
    total = sum(times) or 1.0
    return [time / total for time in times]


def _table(tuned: Any) -> str:
    rows = []
    for one, share in sorted(zip(tuned.chosen, _shares(tuned)), key=lambda pair: -pair[1]):
        speed = "-" if one.seconds is None else f"{one.task.flops / one.seconds / 1e9:.1f}"
        shown = " ".join(f"{name}={value}" for name, value in sorted(one.parameters.items()))
        took = "-" if one.seconds is None else format_seconds(one.seconds)
        rows.append(
            (one.task.text, one.task.calls, f"{100 * share:.1f} %", len(one.task.choices.candidates), one.source, shown)
            + (took, speed)
        )
    header = ("kernel", "calls", "share", "candidates", "known", "parameters", "a call", "GFLOPS")
    return format_table(header, rows)


def _summary(tuned: Any) -> str:
    better = sum(dict(one.parameters) != dict(one.task.choices.default) for one in tuned.chosen)
    learnt = f"; candidates of {', '.join(tuned.learnt)} ranked by a model" if tuned.learnt else ""
    return (
        f"{tuned.measurements} measurements; {better} of {len(tuned.chosen)} kernels have better parameters than the "
        f"default{learnt}"
    )
