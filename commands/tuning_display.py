"""What a terminal shows while a model is tuned: its kernels, the best so far beside the limit, and the time left."""

from __future__ import annotations

import time
from typing import Any

ROWS = 12
"""Kernels shown, those with the largest share of the time."""

REFRESH = 0.25
"""Seconds between pictures."""


def format_seconds(seconds: float) -> str:
    """A latency in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


class TuningDisplay:
    """A context manager; ``show`` takes a session's snapshots. Invisible, it only counts."""

    def __init__(self, visible: bool):
        self.measurements = 0
        self._visible = visible
        self._live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> TuningDisplay:
        if self._visible:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def show(self, snapshot: Any) -> None:
        """Draw a ``tuning.session.Snapshot``."""
        self.measurements = snapshot.measurements
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= REFRESH:
            self._drawn = now
            self._live.update(picture(snapshot), refresh=True)


def picture(snapshot: Any) -> Any:
    """The table of a snapshot, as ``rich`` draws it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    searches = sorted(snapshot.search.tasks, key=lambda one: -one.task.calls * one.guess)
    total = sum(one.task.calls * one.guess for one in searches) or 1.0
    limit = max((one.task.flops / one.best_latency for one in searches if one.best_latency), default=None)
    table = Table(box=None, pad_edge=False)
    table.add_column("kernel")
    for name in ("calls", "share", "tried", "default", "best", "GFLOPS", "of the fastest"):
        table.add_column(name, justify="right")
    for one in searches[:ROWS]:
        table.add_row(*_row(one, total, limit))
    return Group(table, Text(headline(snapshot)))


def _row(one: Any, total: float, limit: float | None) -> list[str]:
    share = f"{100 * one.task.calls * one.guess / total:.1f} %"
    tried = f"{one.measured}/{len(one.order)}"
    cells = [one.task.text, str(one.task.calls), share, tried]
    if one.best_latency is None or limit is None:
        return [*cells, "", "", "", ""]
    speed = one.task.flops / one.best_latency
    default = format_seconds(one.default_latency) if one.default_latency is not None else ""
    return [*cells, default, format_seconds(one.best_latency), f"{speed / 1e9:.1f}", f"{100 * speed / limit:.0f} %"]


def headline(snapshot: Any) -> str:
    """One line: latency of these kernels with the defaults and now, what was measured, and what is left."""
    before, now = snapshot.search.latency(tuned=False), snapshot.search.latency()
    words = [f"{format_seconds(before)} -> {format_seconds(now)} in these kernels", f"{snapshot.measurements} measured"]
    if snapshot.left is not None and snapshot.left != float("inf"):
        words.append(f"{snapshot.left:.0f} s left")
    elif snapshot.trials is not None:
        words.append(f"{max(0, snapshot.trials - snapshot.measurements)} left")
    words.append(f"last: {snapshot.current}" if snapshot.current else "starting the workers")
    return "; ".join(words)
