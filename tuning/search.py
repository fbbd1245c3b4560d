"""Which candidate of which task to measure next.

Every task's default comes first: it says where the time goes. Then time goes to the tasks with most to gain, as far as
their last measurements let hope. Who leads must be confirmed beside the default before the search is over: of many
noisy measurements the smallest is mostly luck.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..schedules.template import Parameters
from .record import Record
from .tasks import Task

CONFIRMED = 3
"""Measurements that a leader and the default need, taken in turn."""

PATIENCE = 8
"""Candidates in a row that were no better, after which no more of a task are tried."""

BETTER = 0.99
"""A latency below this share of the best one is progress."""

HOPE, FADING = 0.06, 0.75
"""Expected gain of a task's next candidate as a share of its latency, and what is left of that after each miss."""

_FLOPS, _BYTES = 5e10, 1e10
"""A second's worth on a small core: to guess what was not measured yet."""

Candidate = tuple[tuple[str, int], ...]


def candidate_key(parameters: Parameters) -> Candidate:
    return tuple(sorted(parameters.items()))


def guessed_seconds(task: Task) -> float:
    """Of one call that was never measured."""
    return max(task.flops / _FLOPS, task.nbytes / _BYTES)


@dataclass
class TaskSearch:
    """Where the search for one task stands. ``order`` has all candidates, the default first."""

    task: Task
    order: Sequence[Parameters]
    latencies: dict[Candidate, list[float]] = field(default_factory=dict)
    failed: set[Candidate] = field(default_factory=set)
    misses: int = 0
    given_up: bool = False
    pending: set[Candidate] = field(default_factory=set)

    @property
    def default(self) -> Candidate:
        return candidate_key(self.task.choices.default)

    @property
    def default_latency(self) -> float | None:
        found = self.latencies.get(self.default)
        return statistics.median(found) if found else None

    @property
    def leader(self) -> Candidate | None:
        """The candidate of the lowest latency so far."""
        if not self.latencies:
            return None
        return min(self.latencies, key=lambda one: (statistics.median(self.latencies[one]), one))

    @property
    def best_latency(self) -> float | None:
        leader = self.leader
        return None if leader is None else statistics.median(self.latencies[leader])

    @property
    def guess(self) -> float:
        """Seconds of one call: measured, or a guess."""
        best = self.best_latency
        return best if best is not None else guessed_seconds(self.task)

    @property
    def measured(self) -> int:
        """Candidates that were tried, failures among them."""
        return len(self.latencies.keys() | self.failed)

    def tell(self, parameters: Parameters, record: Record) -> None:
        """Take in one measurement."""
        key = candidate_key(parameters)
        self.pending.discard(key)
        before, known = self.best_latency, key in self.latencies
        if record.status != "ok":
            self.failed.add(key)
            self.latencies.pop(key, None)
            self.misses += 1
            self.given_up = self.given_up or key == self.default
            return
        self.latencies.setdefault(key, []).append(record.latency)
        if known or before is None:
            return
        self.misses = 0 if record.latency < before * BETTER else self.misses + 1

    def to_confirm(self) -> Parameters | None:
        """The default or the leader, whichever has been measured less, while they need more measurements."""
        leader = self.leader
        if self.given_up or leader is None or leader == self.default:
            return None
        pair = [one for one in (self.default, leader) if one not in self.pending]
        wanting = [one for one in pair if self._times(one) < CONFIRMED]
        if not wanting:
            return None
        return dict(min((self._times(one), one) for one in wanting)[1])

    def _times(self, candidate: Candidate) -> int:
        return len(self.latencies.get(candidate, []))

    def to_try(self) -> Parameters | None:
        """The next candidate that was never measured, None when no gain is expected of one."""
        if self.given_up or self.misses >= PATIENCE:
            return None
        if self.default_latency is None:
            return None if self.default in self.pending else self.task.choices.default
        tried = self.latencies.keys() | self.failed | self.pending
        return next((one for one in self.order if candidate_key(one) not in tried), None)

    @property
    def hope(self) -> float:
        """Seconds of a run of the model that the next candidate may save."""
        return self.task.calls * self.guess * HOPE * FADING ** (self.misses + len(self.pending))

    @property
    def at_stake(self) -> float:
        """Seconds of a run of the model that the leader promises."""
        default, best = self.default_latency, self.best_latency
        return self.task.calls * (default - best) if default is not None and best is not None else 0.0


@dataclass(frozen=True)
class Job:
    """One measurement to make."""

    search: TaskSearch
    parameters: Parameters


class Search:
    """Hands out jobs over all tasks; the caller says when to begin ``closing``: then leaders are only confirmed."""

    def __init__(self, tasks: Sequence[TaskSearch]):
        self.tasks = list(tasks)

    def next(self, closing: bool = False) -> Job | None:
        """The most promising measurement, None where none is promising."""
        jobs: list[tuple[float, int, Job]] = []
        for place, one in enumerate(self.tasks):
            tried = None if closing else one.to_try()
            confirmed = one.to_confirm()
            if tried is not None:
                first = one.default_latency is None
                # Defaults before all else, the longest first.
                hope = 1e6 * (1 + one.task.calls * one.guess) if first else one.hope
                jobs.append((hope, -place, Job(one, tried)))
            if confirmed is not None and (closing or tried is None):
                jobs.append((one.at_stake, -place, Job(one, confirmed)))
        if not jobs:
            return None
        job = max(jobs, key=lambda entry: entry[:2])[2]
        job.search.pending.add(candidate_key(job.parameters))
        return job

    def unconfirmed(self) -> int:
        """Measurements that confirming every leader would still take."""
        total = 0
        for one in self.tasks:
            leader = one.leader
            if not one.given_up and leader is not None and leader != one.default:
                total += sum(max(0, CONFIRMED - len(one.latencies.get(key, []))) for key in (one.default, leader))
        return total

    def latency(self, tuned: bool = True) -> float:
        """Seconds that all calls of all tasks take, with the leaders or (``tuned=False``) with the defaults."""
        chosen = [one.guess if tuned else one.default_latency or one.guess for one in self.tasks]
        return sum(one.task.calls * seconds for one, seconds in zip(self.tasks, chosen, strict=True))
