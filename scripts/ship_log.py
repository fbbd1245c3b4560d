#!/usr/bin/env python3
"""Makes the log that comes with the package, ``tuning/shipped.jsonl``, of tuned models.

    scripts/ship_log.py tune LOG [NAME...] [--seconds 60] [--targets cpu,...] [--threads 1] [--within 15m]
    scripts/ship_log.py write LOG [--most 8]

``tune`` measures the benchmark models (``scripts/bench.py list``), one after the other, into LOG, all for the first
target before the second. It goes on where it was interrupted, or where ``--within`` ended it: LOG.progress.json says
what each model has had of its time, which begins anew when its file or a template changes. A model that fails is named
and left out. ``write`` takes of each workload and class of machines the winner, and others of all speeds to learn
ranking from, with numbers rounded to what they are worth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  (makes onnxkiln importable)
from bench_models.catalog import BenchModel, load_models
from onnxkiln.commands.output import format_bytes
from onnxkiln.errors import KilnError
from onnxkiln.tuning.exchange import export_lines
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.record import Record
from onnxkiln.tuning.selection import TIED, best, ranked
from onnxkiln.tuning.shipped import PATH

DIGITS = 4
TARGETS = "cpu,cpu:x86-64-v4,cpu:x86-64-v3"
"""The first is this very machine: its caches may make another class than those that the others assume."""

LEAST_SECONDS = 2.0
"""Less time is not worth starting workers for."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tune = commands.add_parser("tune", help="measure models into LOG")
    tune.add_argument("log", type=Path)
    tune.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    tune.add_argument("--seconds", type=float, default=60, help="for each model and target (default: 60)")
    tune.add_argument("--targets", default=TARGETS, help=f"this machine must run their code (default: {TARGETS})")
    tune.add_argument("--threads", type=int, default=1, help="of a run that kernels are measured for (default: 1)")
    tune.add_argument("--within", metavar="TIME", help="end after 15m, say, wherever it is (default: when all is done)")
    tune.set_defaults(execute=_tune)
    write = commands.add_parser("write", help="make the shipped log of LOG")
    write.add_argument("log", type=Path)
    write.add_argument("--most", type=int, default=8, help="records of each workload and class (default: 8)")
    write.add_argument("--output", type=Path, default=PATH)
    write.set_defaults(execute=_write)
    options = parser.parse_args(arguments)
    try:
        return int(options.execute(options))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _tune(options: argparse.Namespace) -> int:
    from onnxkiln.tuning.budget import parse_budget

    within = math.inf if options.within is None else parse_budget(options.within).seconds
    end = time.monotonic() + (within or math.inf)
    progress, failed = Progress(options.log), 0
    for target in options.targets.split(","):
        target += f",threads={options.threads}" if options.threads > 1 else ""
        for model in load_models(options.names):
            entry = f"{model.name} for {target}"
            try:
                key = _key(model.path())
                seconds = min(options.seconds - progress.spent(entry, key), end - time.monotonic())
                if seconds < LEAST_SECONDS:
                    continue
                print(f"{entry}: {_tune_one(model, target, seconds, options.log, progress, entry, key)}", flush=True)
            except (KilnError, OSError) as error:
                print(f"{entry}: failed: {error}", file=sys.stderr, flush=True)
                failed += 1
    return int(failed > 0)


def _tune_one(
    model: BenchModel, target: str, seconds: float, log: Path, progress: Progress, entry: str, key: str
) -> str:
    """What came of it, in words; ``progress`` learns what time it took as it goes on."""
    from onnxkiln.compiler import tune
    from onnxkiln.tuning.budget import Budget
    from onnxkiln.tuning.session import Snapshot

    before, last = progress.spent(entry, key), list[Snapshot]()

    def observe(snapshot: Snapshot) -> None:
        last[:] = [snapshot]
        progress.note(entry, key, before + snapshot.elapsed)

    ((_, tuned),) = tune(model.path(), target=target, budget=Budget(seconds=seconds), log=str(log), observer=observe)
    if not last or last[0].left:
        progress.note(entry, key, math.inf, now=True)  # nothing more is expected of it
    kernels = f"{sum(one.source == 'exact' for one in tuned.chosen)} of {len(tuned.chosen)} kernels measured"
    if not last:
        return kernels
    untuned, found = (1e3 * last[0].search.latency(one) for one in (False, True))
    took = f"{tuned.measurements} measurements in {last[0].elapsed:.0f} s"
    return f"{kernels}, {took}, {untuned:.3f} ms of kernels became {found:.3f}"


def _key(model: Path) -> str:
    """Of what a model's time was spent on: its file, and the templates' versions."""
    from onnxkiln.schedules.template import templates

    versions = sorted((name, template.version) for name, template in templates().items())
    return hashlib.sha256(model.read_bytes() + repr(versions).encode()).hexdigest()


class Progress:
    """Seconds that each model has had for each target, in a file beside the log, written whole every few seconds."""

    EVERY = 2.0

    def __init__(self, log: Path):
        self.path = log.with_name(f"{log.name}.progress.json")
        self._entries: dict[str, dict[str, Any]] = {}
        self._written = 0.0
        if self.path.is_file() and log.is_file():
            self._entries = json.loads(self.path.read_text(encoding="utf-8"))

    def spent(self, entry: str, key: str) -> float:
        known = self._entries.get(entry, {})
        return float(known["seconds"]) if known.get("key") == key else 0.0

    def note(self, entry: str, key: str, seconds: float, now: bool = False) -> None:
        self._entries[entry] = {"key": key, "seconds": seconds}
        if now or time.monotonic() - self._written >= self.EVERY:
            self._written = time.monotonic()
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self._entries, indent=1), encoding="utf-8")
            partial.replace(self.path)


def _write(options: argparse.Namespace) -> int:
    with TuningLog.open(options.log, write=False, shipped=False) as log:
        records = to_ship(log.records(), options.most)
    count = export_lines(records, options.output)
    print(f"{options.output}: {count} record(s), {format_bytes(options.output.stat().st_size)}")
    return 0


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

    What was faster than the winner, but not confirmed, is left out, and what is tied with it: here each has one record,
    and would win.
    """
    known = ranked(group)
    slower = [one for one in known if one != winner.candidate and known[one] > TIED * known[winner.candidate]]
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
