"""How far ONNX Runtime's answers differ from its own, for models that round their activations to integers.

A float next to a half rounds one way or the other by its last bit, which no two orders of adding leave alike, and a
quantum that flips in an early layer flips others behind it. So the yardstick is taken from ONNX Runtime itself: its
answer with and without graph optimizations, and its answers to the same input moved by a millionth, about what a few
layers of float32 arithmetic are off by. An answer may lie twice as far from ONNX Runtime's as those do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxkiln.compare import compare
from zoo_check.cases import Feeds

Array = npt.NDArray[Any]
MOVED, DRAWS = 1e-6, 8
FACTOR = 2.0


def session(path: Path, optimized: bool = True) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(path: Path, feeds: Feeds) -> tuple[list[Array], list[float]]:
    """(ONNX Runtime's outputs, for each how far others of its answers lie from it)."""
    optimized = session(path)
    outputs = optimized.run(None, feeds)
    others = [session(path, optimized=False).run(None, feeds)]
    if any(array.dtype.kind == "f" for array in feeds.values()):
        others += [optimized.run(None, moved(feeds, draw)) for draw in range(DRAWS)]
    return outputs, [max(distance(other[i], output) for other in others) for i, output in enumerate(outputs)]


def moved(feeds: Feeds, draw: int) -> Feeds:
    """Floats times 1 and up to a millionth more or less; integers as they are."""
    random = np.random.default_rng(draw)

    def shift(array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        return (array * (1 + MOVED * random.uniform(-1, 1, array.shape))).astype(array.dtype)

    return {name: shift(array) for name, array in feeds.items()}


def distance(a: Array, b: Array) -> float:
    """The largest difference of two elements; infinite where shapes differ or one isn't finite."""
    if a.shape != b.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))


def judge(name: str, found: Array, expected: Array, spread: float) -> str | None:
    """None where an output is right: within the tolerance for floats, or within twice ONNX Runtime's own spread."""
    problem = compare(name, expected, found).problem
    if problem is None or found.dtype != expected.dtype:
        return problem
    away = distance(found, expected)
    if away <= FACTOR * spread:
        return None
    return f"{name}: {away:.3g} away from ONNX Runtime, whose own answers lie {spread:.3g} apart"


def worst(found: Sequence[Array], expected: Sequence[Array]) -> float:
    return max((distance(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
