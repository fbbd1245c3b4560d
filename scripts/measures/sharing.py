"""Do two processes that run one artifact share its weights?

Summed PSS of two after 3 runs: at most 1.15 times one process's, and 1.3 times the weights of the model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from onnxkiln.benchmarking.engines import OURS
from onnxkiln.benchmarking.processes import EngineProcess, Job

from .models import prepare

MOST_GROWTH, MOST_OF_WEIGHTS, RUNS = 1.15, 1.3, 3


def measure(name: str = "smollm2_135m") -> dict[str, Any]:
    """Bytes of memory of one process alone and of two together, beside those of the model's weights."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(name, Path(scratch))
        with _ran(prepared.job) as one:
            alone = one.ask("memory")["pss"]
            with _ran(prepared.job) as two:
                both = one.ask("memory")["pss"] + two.ask("memory")["pss"]
    tensors = onnx.load(prepared.model, load_external_data=False).graph.initializer
    weights = sum(tensor.ByteSize() for tensor in tensors)
    return {
        "model": name,
        "weights": weights,
        "one": alone,
        "two": both,
        "growth": both / alone,
        "of_weights": both / weights,
        "passed": both <= MOST_GROWTH * alone and both <= MOST_OF_WEIGHTS * weights,
    }


def _ran(job: Job) -> EngineProcess:
    process = EngineProcess(OURS, job)
    for _ in range(RUNS - 1):  # the first run is part of starting
        process.ask("run")
    return process


def show(found: dict[str, Any]) -> str:
    """In words."""
    one, two, weights = (f"{found[key] / 1e6:.0f} MB" for key in ("one", "two", "weights"))
    return (
        f"{found['model']}, weights {weights}: PSS of one process {one}, of two {two}, {found['growth']:.3f} times one "
        f"(at most {MOST_GROWTH}) and {found['of_weights']:.3f} times the weights (at most {MOST_OF_WEIGHTS})"
    )
