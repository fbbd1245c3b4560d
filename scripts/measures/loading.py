"""Import and load, against ONNX Runtime's import and session creation; medians of fresh processes that alternate.

Models under 5 MB: at most ONNX Runtime's time and 60 ms. Models of 20 MB and more: less than ONNX Runtime's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from onnxkiln.benchmarking.engines import OURS
from onnxkiln.benchmarking.processes import EngineProcess, Job

from .models import prepare

SMALL, LARGE, MOST_MORE_MS, PROCESSES = 5_000_000, 20_000_000, 60.0, 9
MODELS = ("silero_vad", "magika", "ppocr_det", "minilm_l3", "minilm_l6", "smollm2_135m")


def measure(names: tuple[str, ...] = MODELS) -> list[dict[str, Any]]:
    """Milliseconds of both for each model; models between the two sizes have no limit."""
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            prepared = prepare(name, Path(scratch))
            times: dict[str, list[float]] = {OURS: [], "onnxruntime": []}
            for number in range(PROCESSES + 1):
                for engine, found in times.items():
                    milliseconds = _load_ms(engine, prepared.job)
                    if number:  # the first of each brings the files into memory
                        found.append(milliseconds)
            size = prepared.model.stat().st_size
            ours, theirs = median(times[OURS]), median(times["onnxruntime"])
            passed = ours < theirs if size >= LARGE else ours <= theirs + MOST_MORE_MS if size < SMALL else True
            results.append({"model": name, "bytes": size, "ms": ours, "onnxruntime_ms": theirs, "passed": passed})
    return results


def _load_ms(engine: str, job: Job) -> float:
    with EngineProcess(engine, job) as process:
        return 1000 * (process.started["import_s"] + process.started["open_s"])


def show(found: list[dict[str, Any]]) -> str:
    """A line for each model."""
    return "\n".join(map(_line, found))


def _line(item: dict[str, Any]) -> str:
    verdict = "" if item["passed"] else ": TOO SLOW"
    times = f"{item['ms']:.0f} ms, ONNX Runtime {item['onnxruntime_ms']:.0f} ms"
    return f"{item['model']}, {item['bytes'] / 1e6:.1f} MB: {times}{verdict}"
