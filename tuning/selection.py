"""Which of several measured candidates is best, on one machine or for a class of machines.

What was ever found wrong is never chosen. Of time-outs, crashes and errors the latest verdict counts, for these may be
the machine's fault: a candidate that ran later on that machine is measured, one that failed later isn't. The smallest
of many noisy measurements is mostly luck: where the search has confirmed some candidates, these go first.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .record import Record

CONFIRMED = 3
"""Measurements that make a candidate's median worth more than any single one."""

TIED = 1.01
"""Latencies this close are taken for equal, and what was measured first is taken: the template's own choice, where it
is among them. So noise changes nothing, and never to the worse."""

Candidate = tuple[Any, ...]


def best(records: Iterable[Record]) -> Record | None:
    """The record to use, of measurements of one workload, or None if nothing good was measured.

    On one machine: the first of ``ranked``. Seconds of different machines don't compare: with several, each names its
    winner, and the one that is slowed least, as a geometric mean over the machines that measured it, beside each
    machine's own winner, is taken. Of a candidate's records the one in the middle stands for it.
    """
    by_machine: dict[str, list[Record]] = defaultdict(list)
    refuted = set()
    for record in records:
        by_machine[record.machine].append(record)
        if record.status == "wrong":
            refuted.add(record.candidate)
    measured = {machine: ranked(group, refuted) for machine, group in by_machine.items()}
    measured = {machine: known for machine, known in measured.items() if known}
    if not measured:
        return None
    winners = {next(iter(known)) for known in measured.values()}
    chosen = min(winners, key=lambda one: (_slowdown(one, measured), repr(one)))
    its = [one for group in by_machine.values() for one in group if one.candidate == chosen and one.status == "ok"]
    return sorted(its, key=lambda record: (record.latency, record.digest))[(len(its) - 1) // 2]


def ranked(records: Iterable[Record], refuted: Collection[Candidate] = ()) -> dict[Candidate, float]:
    """Seconds of each candidate that may be chosen, of one workload's records on one machine, best first.

    The median of a candidate's measurements counts; those measured ``CONFIRMED`` times or, where none was, as often as
    any, go before the others; of those ``TIED`` with the best the one that was measured first is the first.
    ``refuted``: candidates that were found wrong elsewhere.
    """
    groups: dict[Candidate, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.candidate].append(record)
    times = {
        candidate: [record.latency for record in group if record.status == "ok"]
        for candidate, group in groups.items()
        if candidate not in refuted and _stands(group)
    }
    enough = min(CONFIRMED, max(map(len, times.values()), default=0))
    known = {candidate: statistics.median(each) for candidate, each in times.items()}
    order = sorted(known, key=lambda one: (len(times[one]) < enough, known[one], repr(one)))
    equals = [one for one in order if len(times[one]) >= enough and known[one] <= TIED * known[order[0]]]
    if equals:
        order.insert(0, min(equals, key=lambda one: (min(record.when for record in groups[one]), order.index(one))))
    return {candidate: known[candidate] for candidate in order}


def _stands(group: Collection[Record]) -> bool:
    """Whether one candidate was never wrong and ran when it was last measured."""
    never_wrong = all(record.status != "wrong" for record in group)
    return never_wrong and max(group, key=lambda record: (record.when, record.status != "ok")).status == "ok"


def _slowdown(candidate: Candidate, measured: Mapping[str, Mapping[Candidate, float]]) -> tuple[float, int]:
    """Mean slowdown of a candidate, and how few machines vouch for it: ties go to what more of them measured."""
    ratios = [known[candidate] / next(iter(known.values())) for known in measured.values() if candidate in known]
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios)), -len(ratios)
