"""What a benchmark found, as data, rows and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .engines import ENGINES


@dataclass(frozen=True)
class Measured:
    """One engine: medians over ``processes`` fresh processes of what each process saw.

    ``p50``, ``p90``, ``p99`` are percentiles of a run's milliseconds, ``runs_per_s`` the runs in a second of running;
    ``load_ms`` is import plus opening, ``first_ms`` the first run. ``pss`` and ``peak`` are bytes of memory after four
    runs and at most, ``disk`` bytes on disk. ``ratio`` is its p50 as a multiple of onnxkiln's, side by side.
    ``problem`` says how its outputs differ from onnxkiln's, or is None.
    """

    p50: float
    p90: float
    p99: float
    runs_per_s: float
    load_ms: float
    first_ms: float
    pss: int
    peak: int
    disk: int
    ratio: float
    calls: int
    problem: str | None = None


@dataclass(frozen=True)
class Entry:
    """One engine in a report: ``measured``, or why it is not."""

    engine: str
    version: str | None
    measured: Measured | None
    words: str = ""


@dataclass(frozen=True)
class BenchReport:
    """``inputs`` has dtypes and shapes, ``machine`` what was measured on."""

    artifact: str
    library: str
    model: str | None
    threads: int
    processes: int
    machine: Mapping[str, Any]
    inputs: Mapping[str, str]
    entries: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return asdict(self)


HEADER = (
    "engine", "version", "runs/s", "p50 ms", "p90 ms", "p99 ms", "ratio", "memory MB", "load ms", "on disk MB",
)  # fmt: skip
LEGEND = (
    "ratio: p50 in multiples of onnxkiln's, side by side; memory: PSS of a process alone after four runs; "
    "load: import and opening; on disk: model and all that runs it, beside Python and NumPy"
)


def rows(report: BenchReport) -> list[tuple[str, ...]]:
    """The table's cells under ``HEADER``; engines that weren't measured have dashes."""
    return [_row(entry) for entry in report.entries]


def remarks(report: BenchReport) -> list[str]:
    """What the table can't say: absent and failed engines, differing outputs, what engines are measured as."""
    lines = [f"{_title(entry)}: {entry.words}" for entry in report.entries if entry.words]
    for entry in report.entries:
        if entry.measured is not None and entry.measured.problem:
            lines.append(f"{_title(entry)}: its outputs differ from onnxkiln's: {entry.measured.problem}")
    return lines + [
        ENGINES[e.engine].remark for e in report.entries if e.measured is not None and ENGINES[e.engine].remark
    ]


def headline(report: BenchReport) -> str:
    """What was measured, where."""
    inputs = ", ".join(f"{name} {kind}" for name, kind in report.inputs.items()) or "no inputs"
    machine = report.machine
    return (
        f"{report.artifact} ({report.library}) on {report.threads} thread(s) of {machine['cpu']} "
        f"({machine['cpus']} CPUs, {machine['isa']}); medians over {report.processes} fresh process(es); {inputs}"
    )


def to_markdown(report: BenchReport) -> str:
    """Headline, table and remarks, to paste into a document."""
    lines = [headline(report), "", _line(HEADER), _line(["---"] * 2 + ["---:"] * (len(HEADER) - 2))]
    lines += [_line(cells) for cells in rows(report)]
    return "\n".join([*lines, "", LEGEND, *(f"\n{text}" for text in remarks(report))])


def _line(cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _title(entry: Entry) -> str:
    return ENGINES[entry.engine].title


def _row(entry: Entry) -> tuple[str, ...]:
    found = entry.measured
    if found is None:
        return (_title(entry), entry.version or "-", *["-"] * (len(HEADER) - 2))
    return (
        _title(entry),
        entry.version or "-",
        _figure(found.runs_per_s),
        *(_figure(value) for value in (found.p50, found.p90, found.p99)),
        f"{found.ratio:.2f}",
        f"{found.pss / 1e6:.1f}",
        f"{found.load_ms:.0f}",
        f"{found.disk / 1e6:.1f}",
    )


def _figure(value: float) -> str:
    """Three digits at least, none too many."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else (
        f"{value:.4f}"
    )
