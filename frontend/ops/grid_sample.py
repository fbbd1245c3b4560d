"""GridSample in any number of dims: https://onnx.ai/onnx/operators/onnx__GridSample.html.

A position outside is moved first (``border``, ``reflection``), then each element around it that is read is moved in its
turn, or counts as 0 (``zeros``); so it is in ONNX's evaluator and in ONNX Runtime.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .precision import cast_to, widened
from .shape import product

_MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}
_PADDINGS = ("zeros", "border", "reflection")
_KEYS = -0.75
"""The coefficient of Keys' cubic convolution."""


@converter("GridSample", since=16)
def grid_sample(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, grid = inputs
    dims, places = tensor_shape(data), tensor_shape(grid)
    mode, padding = node.attr("mode", "linear"), node.attr("padding_mode", "zeros")
    if mode not in _MODES or padding not in _PADDINGS:
        raise ConversionError(f"mode {mode!r} with padding_mode {padding!r} is unknown")
    count = len(dims) - 2
    if count < 1 or len(places) != len(dims):
        raise ConversionError(f"needs data and a grid of one rank of 3 or more, found {len(dims)} and {len(places)}")
    same_dim(ctx, [places[-1], count], "a position's numbers and the spatial dims")
    batch = same_dim(ctx, [dims[0], places[0]], "the batch of data and of the grid")
    shape = [batch, dims[1], *places[1:-1]]
    dtype = tensor_dtype(data)
    if never_has_elements([*shape, *dims]):
        return zeros(ctx, shape, dtype)
    for dim in dims[2:]:
        ctx.check(prim(dim) > 0)
    x = widened(ctx, data)
    sampling = _Sampling(_MODES[mode], padding, bool(node.attr("align_corners", 0)), tensor_dtype(x))
    where = cast_to(ctx, ctx.tensor(grid), tensor_dtype(x))
    return cast_to(ctx, ctx.te(sampling.kernel, x, where, shape, name="grid_sample"), dtype)


@dataclass(frozen=True)
class Tap:
    """One element that a position reads along one axis: its place, whether it exists, its weight."""

    place: PrimExpr
    inside: PrimExpr
    weight: PrimExpr


@dataclass(frozen=True)
class _Sampling:
    mode: str
    padding: str
    corners: bool
    dtype: str

    def kernel(self, x: te.Tensor, grid: te.Tensor, shape: list) -> te.Tensor:
        """Written out as loops: what a position reads is worked out once for all channels."""

        def body(ins: Any, outs: Any) -> tirx.Stmt:
            buffers = [T.buffer_proxy(buffer) for buffer in (*ins, outs[0])]
            with IRBuilder() as builder:
                self._loops(buffers, [prim(dim) for dim in x.shape], [prim(dim) for dim in shape[2:]])
            return builder.get()

        return te.extern([prim_list(shape)], [x, grid], body, dtype=[str(x.dtype)], name="grid_sample")

    def _loops(self, buffers: list, dims: list, spatial: list) -> None:
        x, grid, out = buffers
        batch, channels, *sizes = dims
        count, places = len(sizes), product(spatial)
        image = product(sizes)
        with T.parallel(prim(0), batch * places) as position:
            n, place = T.bind(tirx.truncdiv(position, places)), T.bind(tirx.truncmod(position, places))
            # A position names the last axis first.
            axes = [self._taps(grid[position * count + count - 1 - axis], size) for axis, size in enumerate(sizes)]
            reads = []
            for taps in itertools.product(*axes):
                flat, weight = prim(0), self._const(1)
                for tap, size in zip(taps, sizes, strict=True):
                    flat, weight = flat * size + tap.place, weight * tap.weight
                reads.append((T.bind(flat), T.bind(weight), T.bind(tirx.all(*(tap.inside for tap in taps)))))
            with T.serial(prim(0), channels) as c:
                plane = T.bind((n * channels + c) * image)
                total = self._const(0)
                for flat, weight, inside in reads:
                    value = x[plane + flat] * weight
                    total = total + (tirx.Select(inside, value, self._const(0)) if self.padding == "zeros" else value)
                out[(n * channels + c) * places + place] = total

    def _const(self, value: float) -> PrimExpr:
        return tirx.const(float(value), self.dtype)

    def _taps(self, normal: PrimExpr, size: PrimExpr) -> list[Tap]:
        extent = size.astype(self.dtype)
        one, two = self._const(1), self._const(2)
        if self.corners:
            at = (normal + one) / two * (extent - one)
        else:
            at = ((normal + one) * extent - one) / two
        if self.mode == "nearest":
            at = tirx.nearbyint(at)
        at = _kept(self._moved(_kept(at), extent))
        # Far outside nothing may overflow on the way to an integer; three elements away all is outside alike.
        at = _kept(tirx.max(tirx.min(at, extent + self._const(3)), self._const(-4)))
        if self.mode == "nearest":
            return [self._tap(at.astype("int64"), size, one)]
        low = _kept(tirx.floor(at))
        part, first = _kept(at - low), _kept(low.astype("int64"))
        if self.mode == "linear":
            return [self._tap(first, size, one - part), self._tap(first + 1, size, part)]
        return [self._tap(first + i - 1, size, weight) for i, weight in enumerate(self._cubic(part))]

    def _tap(self, place: PrimExpr, size: PrimExpr, weight: PrimExpr) -> Tap:
        inside = tirx.all(place >= 0, place < size)
        if self.padding == "reflection":
            place = _kept(self._moved(_kept(place.astype(self.dtype)), size.astype(self.dtype))).astype("int64")
        return Tap(_kept(tirx.max(tirx.min(place, size - 1), prim(0))), _kept(inside), _kept(weight))

    def _moved(self, at: PrimExpr, extent: PrimExpr) -> PrimExpr:
        """A position outside of the image, inside."""
        half, one = self._const(0 if self.corners else 0.5), self._const(1)
        low, high = self._const(0) - half, extent - one + half
        if self.padding == "zeros":
            return at
        outside = tirx.any(at < low, at > high)
        if self.padding == "border":
            return tirx.Select(outside, tirx.max(tirx.min(at, extent - one), self._const(0)), at)
        span = tirx.max(high - low, self._const(1e-6))  # of a single element with aligned corners it is 0
        far = tirx.Select(at < low, low - at, at - high)
        far = _kept(far)
        times = _kept(tirx.floor(far / span))
        rest = far - times * span
        even = tirx.EQ(times, tirx.floor(times / self._const(2)) * self._const(2))
        near_low = tirx.Select(at < low, even, tirx.Not(even))
        return tirx.Select(outside, tirx.Select(near_low, low + rest, high - rest), at)

    def _cubic(self, part: PrimExpr) -> list[PrimExpr]:
        """Keys' weights of the four elements around, ``part`` of the way from the second to the third."""
        a, one, two = self._const(_KEYS), self._const(1), self._const(2)

        def near(d: PrimExpr) -> PrimExpr:
            return ((a + two) * d - (a + self._const(3))) * d * d + one

        def far(d: PrimExpr) -> PrimExpr:
            return ((a * d - self._const(5) * a) * d + self._const(8) * a) * d - self._const(4) * a

        return [far(part + one), near(part), near(one - part), far(two - part)]


def _kept(value: PrimExpr) -> PrimExpr:
    """The value in memory of its own: the simplifier looks through names, and takes for ever over nested choices."""
    buffer = T.buffer_proxy(T.alloc_buffer((1,), str(value.ty.dtype), scope="local"))
    buffer[0] = value
    return buffer[0]
