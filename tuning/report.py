"""What tuning came to, as one HTML file that needs nothing else: latency against time, a roofline, the tasks.

The roofline (Williams et al., 2009) bounds a kernel's rate by the machine's arithmetic and by memory's bandwidth times
the operations that the kernel makes of each byte.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..errors import KilnError
from .charts import curve, dot, frame, horizontal, link, note, number, step_line, vertical

_NUMBERED = 12
"""Tasks that have their number in the roofline, where there is room: those with the largest shares of the time."""

_APART = 16
"""Pixels between two numbers."""


@dataclass(frozen=True)
class TaskReport:
    """One task. ``before`` and ``after`` are seconds a call with the default and with the chosen candidate, None
    where that wasn't measured; ``flops`` and ``nbytes`` are those of a call."""

    text: str
    template: str
    calls: int
    flops: float
    nbytes: float
    before: float | None
    after: float | None
    tried: int = 0
    failed: int = 0
    candidate: str = ""
    source: str = ""
    """Where the choice is from: "measured", "log", "class", "default"."""


@dataclass(frozen=True)
class TuningReport:
    """``progress``: (seconds since the start, seconds a run of the model is estimated at), in order.

    ``gflops`` and ``gbytes``: what the machine can do at most, in 1e9 operations and bytes a second; 0 where unknown.
    """

    model: str
    machine: str
    when: str
    budget: str
    tasks: Sequence[TaskReport]
    progress: Sequence[tuple[float, float]]
    gflops: float = 0.0
    gbytes: float = 0.0
    notes: Sequence[str] = ()


def write_report(report: TuningReport, path: Path) -> None:
    """Write the report to ``path``, whole or not at all. Raises KilnError when it can't be written."""
    page = render(report)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(page)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KilnError(f"the report {path} can't be written: {error}", hint="name another file") from error


def render(report: TuningReport) -> str:
    """The page's text."""
    tasks = sorted(report.tasks, key=lambda task: -_total(task.before, task))
    sections = [_summary(report, tasks)]
    if len(report.progress) > 1:
        sections.append("<h2>Latency while tuning</h2>" + _progress_chart(report))
    if any(_intensity(task) and task.after for task in tasks):
        sections.append("<h2>Roofline</h2>" + _roofline(report, tasks))
    sections.append("<h2>Tasks</h2>" + _table(report, tasks))
    title = f"Tuning {report.model}"
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(sections))


def _total(seconds: float | None, task: TaskReport) -> float:
    return (seconds or 0.0) * task.calls


def _summary(report: TuningReport, tasks: Sequence[TaskReport]) -> str:
    before = sum(_total(task.before, task) for task in tasks)
    after = sum(_total(task.after or task.before, task) for task in tasks)
    figures = [
        ("tasks", str(len(tasks))),
        ("measured", str(sum(task.tried for task in tasks))),
        ("failed", str(sum(task.failed for task in tasks))),
        ("before", _milliseconds(before)),
        ("after", _milliseconds(after)),
        ("faster by", f"{before / after:.2f}×" if after else "–"),
    ]
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures)
    lines = [f"{report.machine} · {report.when} · budget {report.budget}", *report.notes]
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return (
        f'<h1>{escape(report.model)}</h1>{text}<div class="figures">{cells}</div>'
        "<p>Before and after are sums over the tasks' calls, measured one by one; what has nothing to choose is not in "
        "them.</p>"
    )


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3g} ms"


def _progress_chart(report: TuningReport) -> str:
    points = [(at, seconds * 1e3) for at, seconds in report.progress]
    low, high = min(value for _, value in points), max(value for _, value in points)
    margin = max((high - low) * 0.1, high * 0.01)
    x = horizontal(0, max(points[-1][0], 1e-3))
    y = vertical(max(0.0, low - margin), high + margin)
    last = points[-1][1]
    inside = [
        step_line(points, x, y),
        note(x.end - 4, y.place(last) + 18, f"{number(last)} ms", "end"),
    ]
    words = f"from {number(points[0][1])} to {number(last)} ms in {number(points[-1][0])} s"
    return frame(x, y, "seconds of tuning", "estimated latency, ms", inside, f"Estimated latency {words}")


def _intensity(task: TaskReport) -> float:
    """Operations of each byte."""
    return task.flops / task.nbytes if task.nbytes else 0.0


def _rate(task: TaskReport, seconds: float | None) -> float:
    """1e9 operations a second; 0 where unknown."""
    return task.flops / seconds / 1e9 if seconds else 0.0


def roof(report: TuningReport, intensity: float) -> float:
    """The most 1e9 operations a second that the machine allows at an intensity; 0 where its limits are unknown."""
    if not report.gflops or not report.gbytes:
        return report.gflops
    return min(report.gflops, report.gbytes * intensity)


def _roofline(report: TuningReport, tasks: Sequence[TaskReport]) -> str:
    shown = [(place, task) for place, task in enumerate(tasks, 1) if _intensity(task) and task.after]
    intensities = [_intensity(task) for _, task in shown]
    rates = [rate for _, task in shown for seconds in (task.before, task.after) if (rate := _rate(task, seconds))]
    roofs = [roof(report, one) for one in (min(intensities) / 1.5, max(intensities) * 1.5)]
    x = horizontal(min(intensities) / 1.5, max(intensities) * 1.5, is_log=True)
    y = vertical(min(filter(None, [*rates, *roofs])) / 1.5, max([*rates, *roofs]) * 1.5, is_log=True)
    inside = []
    if report.gflops:
        bend = report.gflops / report.gbytes if report.gbytes else x.low
        words = f"limit: {report.gflops:.0f} GFLOPS, {report.gbytes:.1f} GB/s"
        inside += [curve(lambda at: roof(report, at), x, y, [bend], words)]
        inside += [note(x.end - 4, y.place(roof(report, x.high)) - 6, words, "end")]
    total = sum(_total(task.before, task) for _, task in shown) or 1.0
    numbers: list[tuple[float, float]] = []
    notes = []
    for place, task in shown:
        at = x.place(_intensity(task))
        radius = 3 + 9 * (_total(task.before, task) / total) ** 0.5
        after = y.place(_rate(task, task.after))
        if task.before:
            before = y.place(_rate(task, task.before))
            inside += [link(at, before, at, after), dot(at, before, radius, "before", _words(task, task.before))]
        inside.append(dot(at, after, radius, "after", _words(task, task.after)))
        if place <= _NUMBERED and all(math.hypot(at - x2, after - y2) > _APART for x2, y2 in numbers):
            numbers.append((at, after))
            notes.append(note(at + radius + 2, after + 4, str(place)))
    legend = (
        '<p class="legend"><i class="before"></i> before <i class="after"></i> after; areas are shares of the time, '
        "numbers those of the table. Winograd's products are counted, not those that they stand for.</p>"
    )
    words = "Roofline with every task before and after tuning"
    return frame(x, y, "operations a byte", "GFLOPS", [*inside, *notes], words) + legend


def _words(task: TaskReport, seconds: float | None) -> str:
    return f"{task.text}: {_milliseconds(seconds)}, {_rate(task, seconds):.1f} GFLOPS"


_HEADER = (
    "", "task", "template", "calls", "share", "before", "after", "gain", "GFLOPS", "of the limit", "tried", "failed",
    "choice",
)  # fmt: skip


def _table(report: TuningReport, tasks: Sequence[TaskReport]) -> str:
    total = sum(_total(task.before, task) for task in tasks) or 1.0
    rows = []
    for place, task in enumerate(tasks, 1):
        rate, limit = _rate(task, task.after), roof(report, _intensity(task))
        cells = [
            place,
            task.text,
            task.template,
            task.calls,
            f"{_total(task.before, task) / total:.1%}",
            _milliseconds(task.before),
            _milliseconds(task.after),
            f"{task.before / task.after:.2f}×" if task.before and task.after else "–",
            f"{rate:.1f}" if rate else "–",
            f"{rate / limit:.0%}" if rate and limit else "–",
            task.tried,
            task.failed,
            f"{task.candidate} ({task.source})" if task.source else task.candidate,
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    header = "".join(f"<th>{escape(name)}</th>" for name in _HEADER)
    return f'<div class="wide"><table><tr>{header}</tr>{"".join(rows)}</table></div>'


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #66727f; --rule: #dde3e9; --paper: #fff;
  --after: #0b6bcb; --before: #9aa5b1; --roof: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #97a3b0; --rule: #2d3742; --paper: #14191f;
  --after: #5aa9f5; --before: #6f7b87; --roof: #f2864b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1240px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0.2rem; } h2 { margin-top: 2.2rem; } p { color: var(--soft); margin: 0.2rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: 0.8rem 2.4rem; margin: 1.2rem 0; }
.figures b { display: block; font-size: 1.5rem; } .figures span { color: var(--soft); }
svg { width: 100%; height: auto; max-width: 1000px; } svg text { font-size: 12px; fill: var(--soft); }
svg text.label { font-size: 13px; } svg text.note { fill: var(--ink); }
.grid { stroke: var(--rule); } .line { fill: none; stroke: var(--after); stroke-width: 2; }
.roof { fill: none; stroke: var(--roof); stroke-width: 2; } .link { stroke: var(--before); }
circle.before { fill: var(--paper); stroke: var(--before); stroke-width: 1.5; }
circle.after { fill: var(--after); fill-opacity: 0.75; stroke: var(--paper); }
.legend i { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 50%; }
.legend i.before { border: 1.5px solid var(--before); } .legend i.after { background: var(--after); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { text-align: right; padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; }
th:nth-child(2), td:nth-child(2), th:nth-child(3), td:nth-child(3), th:last-child, td:last-child { text-align: left; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
