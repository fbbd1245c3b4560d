"""What a log says about a kernel: the parameters to use, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .log import TuningLog
from .machine import MachineKey
from .record import Record

Source = Literal["exact", "class"]


@dataclass(frozen=True)
class Found:
    """``exact``: measured on this very machine; ``class``: on one like it, and good as a default."""

    record: Record
    source: Source


def find(log: TuningLog, workload: str, key: MachineKey, accept: Callable[[Record], bool]) -> Found | None:
    """The record to schedule ``workload`` by. ``accept`` says whether a record's parameters still mean something."""
    if key.machine:
        exact = log.exact(workload, key.machine, accept)
        if exact is not None:
            return Found(exact, "exact")
    for threads in dict.fromkeys((key.threads, 1)):  # what is good for one thread is no bad default for several
        best = log.class_best(workload, key.isa, threads, key.cache, accept)
        if best is not None:
            return Found(best, "class")
    return None
