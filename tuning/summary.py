"""A log in figures: its best candidates by workload, and what it is made of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .record import Record
from .selection import best


@dataclass(frozen=True)
class Known:
    """What a log knows of one workload in one class of machines: the best record, None where all failed."""

    workload: str
    task: str
    isa: str
    threads: int
    cache: str
    machines: int
    measured: int
    failed: int
    best: Record | None
    last: str

    @property
    def gflops(self) -> float | None:
        """Arithmetic rate of the best record in 1e9 operations a second, where its features say the operations."""
        operations = self.best.features.get("flops") if self.best else None
        return operations / self.best.latency / 1e9 if self.best and operations else None

    def to_json(self) -> dict[str, Any]:
        record = self.best
        return {
            "workload": self.workload,
            "task": self.task,
            "isa": self.isa,
            "threads": self.threads,
            "cache": self.cache,
            "machines": self.machines,
            "measured": self.measured,
            "failed": self.failed,
            "template": record.template if record else None,
            "template_version": record.template_version if record else None,
            "algorithm": record.algorithm if record else None,
            "parameters": dict(record.parameters) if record else None,
            "seconds": record.latency if record else None,
            "gflops": self.gflops,
            "last": self.last,
        }


def known_workloads(records: Iterable[Record]) -> list[Known]:
    """One entry per workload and class of machines, in the order in which they were first measured."""
    groups: dict[tuple[str, str, int, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.workload, record.isa, record.threads, record.cache].append(record)
    return [
        Known(
            workload=workload,
            task=group[0].task,
            isa=isa,
            threads=threads,
            cache=cache,
            machines=len({one.machine for one in group}),
            measured=len(group),
            failed=sum(one.status != "ok" for one in group),
            best=best(group),
            last=max(one.when for one in group),
        )
        for (workload, isa, threads, cache), group in groups.items()
    ]


def count(records: Iterable[Record]) -> dict[str, Any]:
    """How many records, workloads and machines; records by status, template, class and version; the first and last."""
    everything = list(records)
    times = sorted(one.when for one in everything)
    return {
        "records": len(everything),
        "workloads": len({one.workload for one in everything}),
        "machines": dict(Counter(one.machine for one in everything).most_common()),
        "statuses": dict(Counter(one.status for one in everything).most_common()),
        "templates": dict(Counter(f"{one.template} v{one.template_version}" for one in everything).most_common()),
        "classes": dict(
            Counter(f"{one.isa}, {one.threads} thread(s), {one.cache}" for one in everything).most_common()
        ),
        "versions": dict(Counter(one.versions for one in everything).most_common()),
        "first": times[0] if times else None,
        "last": times[-1] if times else None,
    }
