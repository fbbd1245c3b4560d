#!/usr/bin/env python3
"""Makes the log that comes with the package, ``tuning/shipped.jsonl``, of tuned models.

    scripts/ship_log.py tune LOG [NAME...] [--seconds 120] [--targets cpu,...]
    scripts/ship_log.py write LOG [--most 24]

``tune`` measures the benchmark models (``scripts/bench.py list``), one after the other, into LOG; it goes on where it
was interrupted. ``write`` takes of each workload and class of machines the winner, and others of all speeds to learn
ranking from, with numbers rounded to what they are worth.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import checkout  # noqa: F401  (makes onnxkiln importable)
from bench_models.catalog import load_models
from onnxkiln.commands.output import format_bytes
from onnxkiln.tuning.exchange import export_lines
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.record import Record
from onnxkiln.tuning.selection import best, ranked
from onnxkiln.tuning.shipped import PATH

DIGITS = 4
TARGETS = "cpu,cpu:x86-64-v4,cpu:x86-64-v3"
"""The first is this very machine: its caches may make another class than those that the others assume."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tune = commands.add_parser("tune", help="measure models into LOG")
    tune.add_argument("log", type=Path)
    tune.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    tune.add_argument("--seconds", type=int, default=120, help="for each model and target (default: 120)")
    tune.add_argument("--targets", default=TARGETS, help=f"this machine must run their code (default: {TARGETS})")
    tune.set_defaults(execute=_tune)
    write = commands.add_parser("write", help="make the shipped log of LOG")
    write.add_argument("log", type=Path)
    write.add_argument("--most", type=int, default=24, help="records of each workload and class (default: 24)")
    write.add_argument("--output", type=Path, default=PATH)
    write.set_defaults(execute=_write)
    options = parser.parse_args(arguments)
    options.execute(options)
    return 0


def _tune(options: argparse.Namespace) -> None:
    from onnxkiln.compiler import tune
    from onnxkiln.tuning.budget import Budget

    for model in load_models(options.names):
        for target in options.targets.split(","):
            print(f"{model.name} for {target} ...", flush=True)
            tune(model.path(), target=target, budget=Budget(seconds=options.seconds), log=str(options.log))


def _write(options: argparse.Namespace) -> None:
    with TuningLog.open(options.log, write=False, shipped=False) as log:
        records = to_ship(log.records(), options.most)
    count = export_lines(records, options.output)
    print(f"{options.output}: {count} record(s), {format_bytes(options.output.stat().st_size)}")


def to_ship(records: Iterable[Record], most: int) -> list[Record]:
    """At most so many records of each workload and class, the winner and others of all speeds, rounded and sorted."""
    groups: dict[tuple[str, str, int, str], list[Record]] = defaultdict(list)
    for record in records:
        if not record.trace:
            groups[record.workload, record.isa, record.threads, record.cache].append(record)
    chosen: list[Record] = []
    for _, group in sorted(groups.items()):
        winner = best(group)
        if winner is not None:
            chosen += _of_all_speeds([one for one in group if one.machine == winner.machine], winner, most)
    return [_rounded(record) for record in chosen]


def _of_all_speeds(group: Sequence[Record], winner: Record, most: int) -> list[Record]:
    """The winner, then others of one machine, evenly spread over their order by latency; with the median latency.

    What was faster than the winner, but not confirmed, is left out: here each has one record, and would win.
    """
    known = ranked(group)
    slower = [one for one in known if one != winner.candidate and known[one] >= known[winner.candidate]]
    order = [winner.candidate, *sorted(slower, key=lambda one: (known[one], repr(one)))]
    if len(order) > most:
        step = (len(order) - 1) / max(1, most - 1)
        order = [order[round(index * step)] for index in range(most)]
    by_candidate = {record.candidate: record for record in group if record.status == "ok"}
    return [replace(by_candidate[one], seconds=(known[one],)) for one in order]


def _rounded(record: Record) -> Record:
    features = {name: _round(value) for name, value in record.features.items()}
    return replace(record, seconds=tuple(_round(one) for one in record.seconds), features=features)


def _round(value: float) -> float:
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


if __name__ == "__main__":
    sys.exit(main())
