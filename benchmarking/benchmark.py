"""What is measured when: loading and memory of each engine alone, then speed side by side.

Whole-model times differ between processes by where things lie in memory, so everything is repeated in fresh
processes. An engine's idle threads spin for a while after its turn, so engines take turns in blocks, with a pause and
a warm call before each.
"""

from __future__ import annotations

import contextlib
import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .. import targets
from ..artifacts.loader import choose_library
from ..artifacts.opening import OpenArtifact
from ..compare import compare_all
from ..errors import InputError, KilnError
from .engines import ENGINES, OURS, Engine
from .processes import EngineFailed, EngineProcess, Job
from .report import BenchReport, Entry, Measured
from .sizes import disk_bytes

PAUSE_S = 0.05
"""Before each block: longer than any engine's threads spin."""

RUNS_BEFORE_MEMORY = 3
"""Beside the first one."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """``processes`` fresh ones of each engine; in each, ``rounds`` blocks of ``seconds``."""

    processes: int = 3
    rounds: int = 3
    seconds: float = 0.3


@dataclass
class _Samples:
    """What the processes of one engine saw, an item per process (``blocks``: all its calls' seconds)."""

    load_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    pss: list[int] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    blocks: list[list[float]] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    failure: str | None = None


def benchmark(
    artifact: Path,
    model: Path | None,
    feeds: Mapping[str, np.ndarray],
    peers: Sequence[Engine],
    *,
    threads: int,
    effort: Effort | None = None,
    say: Say | None = None,
) -> BenchReport:
    """Measure ``artifact`` and, on its ``model``, the ``peers``, on the same ``feeds``.

    Peers that aren't installed or can't do the model are in the report with the reason. Raises KilnError when the
    artifact itself can't be run.
    """
    effort, say = effort or Effort(), say or (lambda _line: None)
    with OpenArtifact(artifact) as opened:
        library = choose_library(opened.manifest).path
    engines = [ENGINES[OURS], *peers]
    present = [engine for engine in engines if engine.name == OURS or engine.version]
    samples = {engine.name: _Samples() for engine in present}
    with tempfile.TemporaryDirectory(prefix="onnxkiln-bench-") as scratch:
        job = make_job(artifact, model, feeds, threads, Path(scratch))
        for number in range(effort.processes):
            # Who goes first changes: no engine always meets a cold or a warm machine.
            order = _rotated(present, number)
            say(f"process {number + 1} of {effort.processes}: loading and memory, one engine at a time")
            for engine in order:
                _alone(engine, job, samples[engine.name], Path(scratch))
            say(f"process {number + 1} of {effort.processes}: speed, side by side")
            _side_by_side(order, job, samples, effort)
    if samples[OURS].failure is not None:
        raise InputError(f"the artifact can't be run on these inputs: {samples[OURS].failure}")
    return BenchReport(
        str(artifact),
        library,
        None if model is None else str(model),
        threads,
        effort.processes,
        machine(),
        {name: f"{array.dtype}{list(array.shape)}" for name, array in feeds.items()},
        tuple(_entry(engine, samples, artifact, model) for engine in engines),
    )


def machine() -> dict[str, Any]:
    """The processor's name, how many of it this process may use, and the instruction set that kernels use."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        names = []
    cpus = len(targets.host_cpus())
    cpu = names[0].strip() if names else platform.machine()
    return {"cpu": cpu, "cpus": cpus, "isa": targets.host().isa.name, "python": platform.python_version()}


def make_job(
    artifact: Path, model: Path | None, feeds: Mapping[str, np.ndarray], threads: int, scratch: Path
) -> Job:
    """The job of all engines; the feeds are written into the folder ``scratch``."""
    with OpenArtifact(artifact) as opened:
        inputs = opened.manifest.contract.inputs
    savez: Any = np.savez  # its annotation takes array names for options
    savez(scratch / "feeds.npz", **feeds)
    return Job(
        artifact=str(artifact.resolve()),
        model=None if model is None else str(model.resolve()),
        feeds=str(scratch / "feeds.npz"),
        threads=threads,
        feeds_of={name: (str(array.dtype), array.shape) for name, array in feeds.items()},
        dims={s.name: [dim if isinstance(dim, int) else None for dim in s.shape] for s in inputs},
    )


def _rotated(engines: Sequence[Engine], by: int) -> list[Engine]:
    by %= len(engines)
    return [*engines[by:], *engines[:by]]


def _alone(engine: Engine, job: Job, samples: _Samples, scratch: Path) -> None:
    """Loading, first run and memory, while no other engine is in memory to share pages with."""
    if samples.failure is not None:
        return
    try:
        with EngineProcess(engine.name, job) as process:
            started = process.started
            for _ in range(RUNS_BEFORE_MEMORY):
                process.ask("run")
            memory = process.ask("memory")
            if not samples.outputs:
                path = scratch / f"{engine.name}.npz"
                process.ask("save", path=str(path))
                with np.load(path) as file:
                    samples.outputs = [file[f"arr_{index}"] for index in range(len(file.files))]
    except EngineFailed as failure:
        samples.failure = str(failure)
        return
    samples.load_s.append(started["import_s"] + started["open_s"])
    samples.first_s.append(started["first_s"])
    samples.pss.append(memory["pss"])
    samples.peak.append(memory["peak"])


def _side_by_side(engines: Sequence[Engine], job: Job, samples: Mapping[str, _Samples], effort: Effort) -> None:
    """One process of every engine at once; they run in turns."""
    with contextlib.ExitStack() as stack:
        processes: dict[str, EngineProcess] = {}
        for engine in engines:
            if samples[engine.name].failure is None:
                with _noting(samples[engine.name]):
                    processes[engine.name] = stack.enter_context(EngineProcess(engine.name, job))
        blocks: dict[str, list[float]] = {name: [] for name in processes}
        for number in range(effort.rounds):
            for engine in _rotated(engines, number):
                if engine.name in processes and samples[engine.name].failure is None:
                    time.sleep(PAUSE_S)
                    with _noting(samples[engine.name]):
                        answer = processes[engine.name].ask("block", seconds=effort.seconds)
                        blocks[engine.name] += answer["seconds"]
        for name, seconds in blocks.items():
            samples[name].blocks.append(seconds)


@contextlib.contextmanager
def _noting(samples: _Samples) -> Any:
    try:
        yield
    except EngineFailed as failure:
        samples.failure = str(failure)


def _entry(engine: Engine, all_samples: Mapping[str, _Samples], artifact: Path, model: Path | None) -> Entry:
    samples = all_samples.get(engine.name)
    if samples is None:
        return Entry(engine.name, None, None, f"not installed; {engine.install}")
    if samples.failure is not None:
        return Entry(engine.name, engine.version, None, f"can't run this model: {samples.failure}")
    ours = all_samples[OURS]
    p50, p90, p99 = (1000 * median(_percentile(block, rank) for block in samples.blocks) for rank in (50, 90, 99))
    measured = Measured(
        p50,
        p90,
        p99,
        runs_per_s=median(len(block) / sum(block) for block in samples.blocks),
        load_ms=1000 * median(samples.load_s),
        first_ms=1000 * median(samples.first_s),
        pss=int(median(samples.pss)),
        peak=int(median(samples.peak)),
        disk=disk_bytes(engine, artifact, model),
        # Of neighbours in time, then the median: what slows the whole machine for a while slows both.
        ratio=median(_percentile(one, 50) / _percentile(other, 50) for one, other in zip(samples.blocks, ours.blocks)),
        calls=sum(map(len, samples.blocks)),
        problem=None if engine.name == OURS else _difference(samples.outputs, ours.outputs),
    )
    return Entry(engine.name, engine.version, measured)


def _percentile(seconds: Sequence[float], rank: float) -> float:
    return float(np.percentile(seconds, rank))


def _difference(theirs: Sequence[np.ndarray], ours: Sequence[np.ndarray]) -> str | None:
    """How a peer's outputs differ from ours, or None."""
    try:
        comparisons = compare_all([f"output {index}" for index in range(len(ours))], theirs, ours)
    except (TypeError, ValueError, KilnError) as error:
        return f"they can't be compared: {error}"
    return next((str(item) for item in comparisons if item.problem), None)
