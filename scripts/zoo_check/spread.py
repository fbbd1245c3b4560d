"""How far ONNX Runtime's answers differ from its own, for models that round their activations to integers.

A float next to a half rounds one way or the other by its last bit, which no two orders of adding leave alike, and a
quantum that flips in an early layer flips others behind it. So the yardstick is taken from ONNX Runtime itself: its
answer with and without graph optimizations, and its answers where the model's floats and the input are moved by up to
two units of their last place. An answer may lie twice as far from ONNX Runtime's as those do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from onnxkiln.compare import compare
from zoo_check.cases import Feeds

Array = npt.NDArray[Any]
Run = Callable[[Feeds], Sequence[Array]]
MOVED, DRAWS = 2.0**-22, 6
FACTOR = 2.0
MEANT = ("Resize", "Upsample", "Pow")
"""Operators whose later inputs are meant as they are: a factor of 2.0000002 is another size, such a power NaN of -1."""
LARGE = 1e30
"""Constants past it stand for infinity; moved, they might become it."""


def session(model: Path | bytes, optimized: bool = True) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Reference:
    """ONNX Runtime's answers of one model, its own variants of them included."""

    def __init__(self, path: Path):
        self._plain = session(path)
        self._others = [session(path, optimized=False), *(session(moved_model(path, draw)) for draw in range(DRAWS))]

    def runs(self) -> list[Run]:
        """Its plain run, and its others, each of feeds that are taken as they are."""
        return [partial(one.run, None) for one in (self._plain, *self._others)]

    def run(self, feeds: Feeds) -> tuple[list[Array], list[float]]:
        """(its outputs, for each how far others of its answers lie from it)."""
        outputs = self._plain.run(None, feeds)
        others = [other.run(None, moved(feeds, draw) if draw else feeds) for draw, other in enumerate(self._others)]
        return outputs, [max(distance(other[i], output) for other in others) for i, output in enumerate(outputs)]


def moved_model(path: Path, draw: int) -> bytes:
    """The model with its constant floats, scales included, moved by chance, but for those of ``MEANT``."""
    model, random = onnx.load(path), np.random.default_rng(draw)
    meant = {name for node in model.graph.node if node.op_type in MEANT for name in node.input[1:]}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in meant:
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(_shifted(array, random), tensor.name))
    return bytes(model.SerializeToString())


def moved(feeds: Feeds, draw: int) -> Feeds:
    """Floats moved by chance; integers as they are."""
    random = np.random.default_rng(draw)
    return {name: _shifted(array, random) if array.dtype.kind == "f" else array for name, array in feeds.items()}


def _shifted(array: Array, random: np.random.Generator) -> Array:
    factor = 1 + MOVED * random.uniform(-1, 1, array.shape)
    return np.asarray(np.where(np.abs(array) < LARGE, array * factor, array), array.dtype)


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
