"""Time per compiled function, taken from the virtual machine's own calls."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OVERHEAD = "(virtual machine)"
"""The name under which allocation, shape arithmetic and the like are summed."""

_BUILTINS = ("vm.builtin.", "shape_func")


@dataclass(frozen=True)
class FunctionTime:
    """``calls`` and ``seconds`` are per run; seconds exclude other functions called from inside."""

    name: str
    calls: float
    seconds: float


class Profiler:
    """``instrument`` is what the machine calls before and after each function; ``report`` sums it up."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = defaultdict(int)
        self._nanoseconds: dict[str, int] = defaultdict(int)
        self._open: list[tuple[int, int]] = []

    def instrument(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
        """Returns 0: go on with the call."""
        now = time.perf_counter_ns()
        if before:
            self._open.append((now, 0))
            return 0
        start, inner = self._open.pop()
        spent = now - start
        self._calls[name] += 1
        self._nanoseconds[name] += spent - inner
        if self._open:
            outer_start, outer_inner = self._open[-1]
            self._open[-1] = outer_start, outer_inner + spent
        return 0

    def report(self, runs: int, total: float) -> list[FunctionTime]:
        """Slowest first. ``total`` is the seconds of all runs; what no function accounts for is overhead."""
        calls: dict[str, int] = defaultdict(int)
        seconds: dict[str, float] = defaultdict(float)
        for name, spent in self._nanoseconds.items():
            group = OVERHEAD if name.startswith(_BUILTINS) else name
            calls[group] += self._calls[name]
            seconds[group] += spent * 1e-9
        seconds[OVERHEAD] += max(0.0, total - sum(seconds.values()))
        times = [FunctionTime(name, calls[name] / runs, seconds[name] / runs) for name in seconds]
        return sorted(times, key=lambda item: -item.seconds)


def measure(machine: Any, call: Callable[[Any], Any], runs: int) -> list[FunctionTime]:
    """Run ``call(machine["main"])`` once to warm up and ``runs`` times under the profiler."""
    main = machine["main"]
    call(main)
    profiler = Profiler()
    machine["set_instrument"](profiler.instrument)
    start = time.perf_counter()
    for _ in range(runs):
        call(main)
    return profiler.report(runs, time.perf_counter() - start)
