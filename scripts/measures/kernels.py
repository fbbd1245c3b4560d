"""Kernels of one small model, timed alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

import onnxkiln


def shortest_convolutions(model: onnx.ModelProto, shape: Sequence[int], target: str, rounds: int) -> list[float]:
    """Seconds of the shortest call of each convolution, on one thread; ``x`` has ``shape``."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        onnx.save(model, path)
        artifact = onnxkiln.compile(path, Path(scratch) / "artifact", target=target)
        with onnxkiln.load(artifact, threads=1) as session:
            feeds = {"x": np.random.default_rng(0).standard_normal(tuple(shape), np.float32)}
            shortest: dict[str, float] = {}
            for _ in range(rounds):
                for time in session.profile(feeds, runs=3):
                    shortest[time.name] = min(time.seconds, shortest.get(time.name, time.seconds))
    return [seconds for name, seconds in shortest.items() if "conv2d" in name]
