"""The arithmetic of Resize: which input elements an output element is made of, and with which weights.

Along each axis, output ``i`` is a weighted sum of a few input elements, its *taps*. Taps are tables of (place, weight):
NumPy constants where the sizes are known, small tensors computed at run time where they are not. Coordinates are
float32, computed by the same steps as ONNX Runtime's, because rounding decides which element is nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from .arith import prim
from .values import PrimExpr

Number = Any
"""A NumPy array or number, or a scalar TVM expression."""


@dataclass(frozen=True)
class Method:
    """How to resize: ONNX's attributes of the same names. ``nearest_mode`` "simple" is that of opset 10 and before."""

    mode: str
    coordinates: str
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    extrapolation_value: float = 0.0
    antialias: bool = False


@dataclass(frozen=True)
class Stretch:
    """One axis to resize. ``scale`` is None where it follows from the sizes; ``roi`` is the part to crop to.

    Both are scalar expressions in place of numbers where they are read when the model runs.
    """

    axis: int
    scale: Number | None
    roi: tuple[Number, Number] = (0.0, 1.0)


class NumpyMath:
    """The operations that taps need, on arrays."""

    floor, ceil, minimum, maximum, where = np.floor, np.ceil, np.minimum, np.maximum, np.where

    @staticmethod
    def cast(value: Number, dtype: str) -> Number:
        return np.asarray(value).astype(dtype)


class TensorMath:
    """The same operations on scalar expressions."""

    floor, ceil, minimum, maximum = tirx.floor, tirx.ceil, tirx.min, tirx.max

    @staticmethod
    def where(condition: Number, left: Number, right: Number) -> Number:
        return tirx.Select(condition, left, right)

    @staticmethod
    def cast(value: Number, dtype: str) -> Number:
        if isinstance(value, int | float | np.number):
            return tirx.const(float(value) if "float" in dtype else int(value), dtype)
        return value.astype(dtype)


@dataclass(frozen=True)
class Axis:
    """One axis while taps are computed: ``size`` elements become ``resized`` of them."""

    math: Any
    size: Number
    resized: Number
    stretch: Stretch
    method: Method

    def f32(self, value: Number) -> Number:
        return self.math.cast(value, "float32")

    @property
    def scale(self) -> Number:
        given = self.stretch.scale
        return self.f32(given) if given is not None else self.f32(self.resized) / self.f32(self.size)


def coordinate(axis: Axis, i: Number) -> Number:
    """The float32 position in the input of output ``i``."""
    mode, f32 = axis.method.coordinates, axis.f32
    # TVM's analyzer fails on float products of a loop variable's range; rounded, it takes the value for opaque.
    at, half, scale, last = axis.math.floor(f32(i)), f32(0.5), axis.scale, f32(axis.size - 1)
    if mode == "asymmetric":
        return at / scale
    if mode == "tf_half_pixel_for_nn":
        return (at + half) / scale
    centred = (at + half) / scale - half
    if mode == "half_pixel":
        return centred
    if mode == "half_pixel_symmetric":
        return _symmetric(axis, at, scale)
    several = axis.resized > 1
    span = axis.math.maximum(f32(axis.resized) - f32(1), f32(1))
    if mode == "pytorch_half_pixel":
        return axis.math.where(several, centred, f32(0))
    if mode == "align_corners":
        return axis.math.where(several, at * last / span, f32(0))
    start, end = axis.stretch.roi
    spread = f32(start) * last + at * (f32(end) - f32(start)) * last / span
    return axis.math.where(several, spread, half * (f32(start) + f32(end)) * last)


def _symmetric(axis: Axis, at: Number, scale: Number) -> Number:
    f32, f64 = axis.f32, lambda value: axis.math.cast(value, "float64")
    adjustment = f32(axis.resized) / (scale * f32(axis.size))
    offset = f32(axis.size) / f32(2) * (f32(1) - adjustment)
    return f32(f64(offset) + (f64(at) + f64(0.5)) / f64(scale) - f64(0.5))


def taps(axis: Axis, i: Number) -> list[tuple[Number, Number]]:
    """(place, weight) of each tap of output ``i``. Place -1 marks an output outside of the region to crop to."""
    at = coordinate(axis, i)
    found = [(_clamped(axis, place), weight) for place, weight in _TAPS[axis.method.mode](axis, at)]
    if axis.method.coordinates != "tf_crop_and_resize":
        return found
    cast, where, last = axis.math.cast, axis.math.where, axis.f32(axis.size - 1)
    marked = where(at < axis.f32(0), cast(-1, "int64"), where(at > last, cast(-1, "int64"), found[0][0]))
    return [(marked, found[0][1]), *found[1:]]


def _clamped(axis: Axis, place: Number) -> Number:
    math = axis.math
    last = math.cast(axis.size, "int64") - math.cast(1, "int64")
    return math.maximum(math.minimum(math.cast(place, "int64"), last), math.cast(0, "int64"))


def _nearest_taps(axis: Axis, at: Number) -> list[tuple[Number, Number]]:
    rounding = axis.method.nearest_mode
    if rounding == "simple":
        at = axis.math.where(axis.scale < axis.f32(1), axis.math.ceil(at), axis.math.floor(at))
        rounding = "floor"
    return [(ROUNDINGS[rounding](axis, at), axis.f32(1))]


def _rounded(axis: Axis, at: Number, up: Number) -> Number:
    return axis.math.floor(at) + axis.math.where(up, axis.f32(1), axis.f32(0))


ROUNDINGS: dict[str, Callable[[Axis, Number], Number]] = {
    "floor": lambda axis, at: axis.math.floor(at),
    "ceil": lambda axis, at: axis.math.ceil(at),
    "round_prefer_floor": lambda axis, at: _rounded(axis, at, at - axis.math.floor(at) > axis.f32(0.5)),
    "round_prefer_ceil": lambda axis, at: _rounded(axis, at, at - axis.math.floor(at) >= axis.f32(0.5)),
}
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)


def _filtered(
    axis: Axis, at: Number, reach: int, kernel: Callable[[Axis, Number], Number]
) -> list[tuple[Number, Number]]:
    """Taps within ``reach`` of ``at`` weighted by ``kernel`` of the distance.

    With antialias a smaller output widens the kernel by the scale, so that every input element has a part in it.
    """
    f32 = axis.f32
    shrink = 1.0
    if axis.method.antialias:
        given = axis.stretch.scale
        shrink = min(1.0, given if given is not None else int(axis.resized) / int(axis.size))
    first = int(np.floor(-reach / shrink)) + 1
    low = axis.math.floor(at)
    places = [low + f32(offset) for offset in range(first, 2 - first)]
    weights = [_weight(axis, at, place, f32(shrink), kernel) for place in places]
    if axis.method.exclude_outside or axis.method.antialias:
        total = weights[0]
        for weight in weights[1:]:
            total = total + weight
        weights = [weight / total for weight in weights]
    return list(zip(places, weights, strict=True))


def _weight(axis: Axis, at: Number, place: Number, shrink: Number, kernel: Callable[[Axis, Number], Number]) -> Number:
    weight = kernel(axis, _absolute(axis, place - at) * shrink)
    if not axis.method.exclude_outside:
        return weight
    pick, zero = axis.math.where, axis.f32(0)
    return pick(place >= zero, pick(place <= axis.f32(axis.size - 1), weight, zero), zero)


def _absolute(axis: Axis, value: Number) -> Number:
    return axis.math.maximum(value, axis.f32(0) - value)


def _triangle(axis: Axis, distance: Number) -> Number:
    return axis.math.maximum(axis.f32(1) - distance, axis.f32(0))


def _cubic(axis: Axis, t: Number) -> Number:
    """Keys' cubic convolution with coefficient ``a`` (IEEE TASSP 29(6), 1981)."""
    f32 = axis.f32
    a = f32(axis.method.cubic_coeff_a)
    near = ((a + f32(2)) * t - (a + f32(3))) * t * t + f32(1)
    far = ((a * t - f32(5) * a) * t + f32(8) * a) * t - f32(4) * a
    return axis.math.where(t <= f32(1), near, axis.math.where(t < f32(2), far, f32(0)))


def _linear_taps(axis: Axis, at: Number) -> list[tuple[Number, Number]]:
    if axis.method.antialias or axis.method.exclude_outside:
        return _filtered(axis, at, 1, _triangle)
    at = axis.math.maximum(axis.math.minimum(at, axis.f32(axis.size - 1)), axis.f32(0))
    low = axis.math.floor(at)
    return [(low, axis.f32(1) - (at - low)), (low + axis.f32(1), at - low)]


_TAPS: dict[str, Callable[[Axis, Number], list[tuple[Number, Number]]]] = {
    "nearest": _nearest_taps,
    "linear": _linear_taps,
    "cubic": lambda axis, at: _filtered(axis, at, 2, _cubic),
}


def constant_tables(size: int, resized: int, stretch: Stretch, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Places (int64) and weights (float32) of shape (resized, taps)."""
    axis = Axis(NumpyMath, size, resized, stretch, method)
    found = taps(axis, np.arange(resized, dtype=np.int64))
    places = np.stack([np.broadcast_to(place, (resized,)) for place, _ in found], 1).astype(np.int64)
    weights = np.stack([np.broadcast_to(weight, (resized,)) for _, weight in found], 1).astype(np.float32)
    return places, weights


def expressions(size: PrimExpr, resized: PrimExpr, stretch: Stretch, method: Method, i: PrimExpr) -> list:
    """The taps of output ``i`` as scalar expressions."""
    return taps(Axis(TensorMath, prim(size), prim(resized), stretch, method), i)


def wide_taps(size: PrimExpr, resized: PrimExpr, stretch: Stretch, method: Method) -> PrimExpr:
    """How many taps antialiasing with a scale that is an expression takes."""
    shrink = _shrink(Axis(TensorMath, prim(size), prim(resized), stretch, method))
    reach = 2.0 if method.mode == "cubic" else 1.0
    first = tirx.floor(tirx.const(-reach, "float64") / shrink).astype("int64") + prim(1)
    return prim(2) - first * 2


def wide_tap(
    size: PrimExpr, resized: PrimExpr, stretch: Stretch, method: Method, i: PrimExpr, tap: PrimExpr, count: PrimExpr
) -> tuple[PrimExpr, PrimExpr]:
    """(place, weight before division by the sum of all) of one of ``count`` taps of output ``i``."""
    axis = Axis(TensorMath, prim(size), prim(resized), stretch, method)
    at = coordinate(axis, i)
    place = tirx.floor(at) + axis.f32(tap + prim(1) - tirx.floordiv(count, prim(2)))
    kernel = _cubic if method.mode == "cubic" else _triangle
    return _clamped(axis, place), _weight(axis, at, place, axis.f32(_shrink(axis)), kernel)


def _shrink(axis: Axis) -> PrimExpr:
    """Scales below 1 as float64, which decides how many taps there are; scales that make no sense are kept harmless."""
    given, wide = axis.stretch.scale, lambda value: axis.math.cast(value, "float64")
    scale = wide(given) if given is not None else wide(axis.resized) / wide(tirx.max(axis.size, prim(1)))
    return tirx.max(tirx.min(scale, tirx.const(1.0, "float64")), tirx.const(1e-6, "float64"))
