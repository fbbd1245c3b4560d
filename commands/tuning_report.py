"""``--report``: what a tuner did, collected while it works, written as one HTML page."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..targets import Target
    from ..tuning.report import TaskReport


class ReportRecorder:
    """Takes a session's snapshots and, in the end, what was chosen. ``path`` None: does nothing."""

    def __init__(self, path: Path | None, model: Path, target: str, budget: str | None):
        if path is not None and "," in target:
            raise UsageError("--report is about one target", hint=f"tune for one of {target} at a time")
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"--report {path}: there is no folder {path.parent}", hint="make it, or name another file")
        self._path = path
        self._model = model
        self._target = target
        self._budget = budget
        self._progress: list[tuple[float, float]] = []
        self._searches: dict[str, Any] = {}

    def show(self, snapshot: Any) -> None:
        """Keep a ``tuning.session.Snapshot``."""
        if self._path is None:
            return
        self._searches = {one.task.workload: one for one in snapshot.search.tasks}
        if all(one.default_latency is not None or one.given_up for one in snapshot.search.tasks):
            # Before, the sum would be of guesses.
            self._progress.append((snapshot.elapsed, snapshot.search.latency()))

    def write(self, tuned: Any, log: str | None) -> None:
        """Write the page for a ``tuner.Tuned``; ``log`` is what ``--log`` said."""
        if self._path is None:
            return
        from ..targets import parse
        from ..tuned_records import open_log
        from ..tuning.machine import machine_key, processor
        from ..tuning.report import TuningReport, write_report

        target = parse(self._target)[0]
        gflops, gbytes = _limits(target, tuned)
        with open_log(log) as records:
            tasks = [_task(one, self._searches.get(one.task.workload), records, target) for one in tuned.chosen]
        report = TuningReport(
            model=self._model.name,
            machine=f"{processor()}, {target.isa.name}, one core",
            when=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            budget=self._budget or "none",
            tasks=tasks,
            progress=self._progress,
            gflops=gflops,
            gbytes=gbytes,
            notes=(machine_key(target).versions,),
        )
        write_report(report, self._path)


def both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    """Call one after the other."""

    def show(snapshot: Any) -> None:
        first(snapshot)
        second(snapshot)

    return show


def _limits(target: Target, tuned: Any) -> tuple[float, float]:
    """What a core does at most, 0 where this machine can't run the target's code."""
    from ..targets import missing_features
    from ..tuning.limits import core_limits

    if not target.is_native or missing_features(target.required_features):
        return 0.0, 0.0
    weights = sum(int(one.task.features.get("weight_bytes", 0)) * one.task.calls for one in tuned.chosen)
    limits = core_limits(target, weights)
    return limits.gflops, limits.gbytes


def _task(chosen: Any, search: Any, log: Any, target: Target) -> TaskReport:
    """A task as the report shows it: what was measured now, and otherwise what the log says of this machine."""
    from ..tuning.machine import machine_key
    from ..tuning.report import TaskReport

    task = chosen.task
    records = list(log.records({"workload": task.workload, "machine": machine_key(target).machine}))
    default = _default_latency(task.choices.default, records)
    if search is not None and search.default_latency is not None:
        default = search.default_latency
    return TaskReport(
        text=task.text,
        template=task.choices.template,
        calls=task.calls,
        flops=task.flops,
        nbytes=task.nbytes,
        before=default,
        after=default if chosen.source == "default" else chosen.seconds,
        tried=search.measured if search is not None else len({one.candidate for one in records}),
        failed=len(search.failed) if search is not None else sum(one.status != "ok" for one in records),
        candidate=" ".join(f"{name}={value}" for name, value in sorted(chosen.parameters.items())),
        source=chosen.source,
    )


def _default_latency(parameters: Mapping[str, int], records: Sequence[Any]) -> float | None:
    from ..tuning.selection import ranked

    known = ranked(records)
    its = (one.candidate for one in records if dict(one.parameters) == dict(parameters))
    return next((known[candidate] for candidate in its if candidate in known), None)
