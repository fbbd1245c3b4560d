"""The report's charts as SVG: a step line over time, and a roofline. Colours are CSS classes of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 20, 48


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from ``low`` to ``high``, drawn from pixel ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return self.start + (self._scaled(value) - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values inside the axis: 1, 2 and 5 times powers of ten, fewer where a logarithmic axis is long."""
        if not self.is_log:
            step = _round_step((self.high - self.low) / 6)
            first = math.ceil(self.low / step - 1e-9)
            return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = math.log10(self.high / self.low)
        factors = (1, 2, 5) if decades < 4 else (1,)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def horizontal(low: float, high: float, is_log: bool = False) -> Axis:
    return Axis(low, high, _LEFT, WIDTH - _RIGHT, is_log)


def vertical(low: float, high: float, is_log: bool = False) -> Axis:
    return Axis(low, high, HEIGHT - _BOTTOM, _TOP, is_log)


def number(value: float) -> str:
    """Three digits, without a power of ten where that reads well."""
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}"


def frame(x: Axis, y: Axis, x_label: str, y_label: str, inside: Iterable[str], describe: str) -> str:
    """A chart: grid, ticks and labels around what is ``inside``; ``describe`` says it for screen readers."""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(describe)}">']
    for value in x.ticks():
        at = x.place(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 17}" text-anchor="middle">{number(value)}</text>')
    for value in y.ticks():
        at = y.place(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{WIDTH - _RIGHT}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>')
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(f'<text class="label" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f"{escape(x_label)}</text>")  # fmt: skip
    parts.append(f'<text class="label" text-anchor="middle" transform="translate(16 {middle}) rotate(-90)">'
                 f"{escape(y_label)}</text>")  # fmt: skip
    return "\n".join([*parts, *inside, "</svg>"])


def step_line(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """A line that keeps each value until the next one; ``points`` in the order of x."""
    corners: list[str] = []
    for index, (at, value) in enumerate(points):
        if index:
            corners.append(f"{x.place(at):.1f},{y.place(points[index - 1][1]):.1f}")
        corners.append(f"{x.place(at):.1f},{y.place(value):.1f}")
    return f'<polyline class="line" points="{" ".join(corners)}"/>'


def curve(function: Callable[[float], float], x: Axis, y: Axis, bends: Sequence[float], name: str) -> str:
    """A curve made of straight parts (on the axes' scales) that meet at ``bends``."""
    places = [x.low, *sorted(bend for bend in bends if x.low < bend < x.high), x.high]
    corners = " ".join(f"{x.place(at):.1f},{y.place(function(at)):.1f}" for at in places)
    return f'<polyline class="roof" points="{corners}"><title>{escape(name)}</title></polyline>'


def dot(x: float, y: float, radius: float, kind: str, title: str) -> str:
    """A circle at a pixel; ``title`` shows when the pointer rests on it."""
    text = f"<title>{escape(title)}</title>"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{text}</circle>'


def link(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="link" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def note(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="note" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
