"""Tensors made from sizes: Range, ConstantOfShape, EyeLike, OneHot, Trilu.

https://onnx.ai/onnx/operators/onnx__Range.html and siblings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import floordiv, known, maximum, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, SymbolicInts, Value, as_int, symbolic, tensor_dtype, tensor_shape
from .empty import opaque
from .shape import normalized_axes, product

SMALL = 1 << 10
"""Up to so many elements a tensor of known values is kept as one; larger ones are made when the model runs."""


@converter("Range")
def range_(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    dtype = tensor_dtype(inputs[0])
    if np.dtype(dtype).kind not in "iu":
        return _float_range(ctx, inputs, dtype)
    start, limit, delta = (ctx.ints(value, "a bound of a range")[0] for value in inputs)
    if not known(delta):
        return _float_range(ctx, inputs, dtype)
    if int(delta) == 0:
        raise ConversionError("a range with steps of 0 never ends")
    distance = limit - start if int(delta) > 0 else start - limit
    step = abs(int(delta))
    count = ctx.simplify(floordiv(maximum(distance, 0) + (step - 1), step))
    if known(count) and int(count) <= SMALL:
        return symbolic([ctx.simplify(start + i * int(delta)) for i in range(int(count))], dtype)

    def arange(start: PrimExpr, count: PrimExpr) -> te.Tensor:
        return te.compute((prim(count),), lambda i: (prim(start) + i * int(delta)).astype(dtype), name="arange")

    return ctx.te(arange, start, count)


def _float_range(ctx: Context, inputs: Sequence[Value], dtype: str) -> Value:
    """Bounds that only run time knows: the length is computed there first."""
    bounds = [ctx.reshape(value, [1]) for value in inputs]
    wide = "float64" if "float" in dtype else "int64"

    def range_length(start: te.Tensor, limit: te.Tensor, delta: te.Tensor) -> te.Tensor:
        def length(i: tirx.Var) -> PrimExpr:
            first, last, step = (bound(i).astype(wide) for bound in (start, limit, delta))
            if wide == "float64":
                return tirx.max(tirx.ceil((last - first) / step), tirx.const(0.0, wide)).astype("int64")
            distance = tirx.max(tirx.Select(step > 0, last - first, first - last), prim(0))
            stride = tirx.max(tirx.max(step, -step), prim(1))
            return tirx.truncdiv(distance + stride - 1, stride)

        return te.compute((prim(1),), length, name="range_length")

    (count,) = ctx.ints(ctx.te(range_length, *bounds), "the length of a range")
    ctx.check(count >= 0)

    def arange(start: te.Tensor, delta: te.Tensor, count: PrimExpr) -> te.Tensor:
        zero = prim(0)
        return te.compute((prim(count),), lambda i: start(zero) + i.astype(dtype) * delta(zero), name="arange")

    return ctx.te(arange, bounds[0], bounds[2], count)


@converter("ConstantOfShape")
def constant_of_shape(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    fill = np.asarray(node.attr("value", np.zeros(1, np.float32))).reshape(-1)[0]
    shape = ctx.ints(inputs[0], "the shape of a tensor")
    for size in shape:
        if known(size) and int(size) < 0:
            raise ConversionError(f"a tensor can't have the size {size}")
        if not known(size):
            ctx.check(size >= 0)
    elements = ctx.simplify(product(shape))
    if known(*shape) and int(elements) <= SMALL:  # an open size may be multiplied by 0
        return np.full([int(size) for size in shape], fill, fill.dtype)

    def full(shape: list[PrimExpr]) -> te.Tensor:
        value = opaque(tirx.const(fill.item(), fill.dtype.name))
        return te.compute(prim_list(shape), lambda *_: value, name="full")

    return ctx.te(full, shape)


@converter("EyeLike")
def eye_like(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    dims = tensor_shape(inputs[0])
    if len(dims) != 2:
        raise ConversionError(f"needs a matrix, found rank {len(dims)}")
    to = node.attr("dtype")
    dtype = tensor_dtype(inputs[0]) if to is None else ir.DataType(to).numpy().name
    k = node.attr("k", 0)

    def eye(rows: PrimExpr, columns: PrimExpr) -> te.Tensor:
        return te.compute(prim_list([rows, columns]), lambda i, j: (j - i == k).astype(dtype), name="eye")

    return ctx.te(eye, *dims)


@converter("OneHot")
def one_hot(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    indices, depth, values = inputs
    dims = tensor_shape(indices)
    (size,) = ctx.ints(depth if _is_integer(depth) else _whole(ctx, depth), "depth")
    (axis,) = normalized_axes([node.attr("axis", -1)], len(dims) + 1)
    if not known(size):
        ctx.check(size >= 0)

    def one_hot(places: te.Tensor, values: te.Tensor, size: PrimExpr) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            place = places(*i[:axis], *i[axis + 1 :]).astype("int64")
            # Kept near the dim: loops are cut where they meet ``place``, and ends must not overflow.
            place = tirx.max(tirx.min(tirx.Select(place < 0, place + prim(size), place), prim(size)), prim(-1))
            return tirx.Select(place == i[axis], values(prim(1)), values(prim(0)))

        shape = [*places.shape[:axis], prim(size), *places.shape[axis:]]
        return te.compute(prim_list(shape), element, name="one_hot")

    return ctx.te(one_hot, ctx.tensor(indices), ctx.tensor(values), size)


def _is_integer(value: Value) -> bool:
    return isinstance(value, SymbolicInts) or np.dtype(tensor_dtype(value)).kind in "iu"


def _whole(ctx: Context, value: Value) -> Value:
    return value.astype(np.int64) if isinstance(value, np.ndarray) else ctx.emit(relax.op.astype(value, "int64"))


@converter("Trilu")
def trilu(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data = inputs[0]
    assert data is not None
    if len(tensor_shape(data)) < 2:
        raise ConversionError("needs a tensor of rank 2 or more")
    upper = bool(node.attr("upper", 1))
    given = inputs[1] if len(inputs) > 1 else None
    k: PrimExpr = 0 if given is None else ctx.ints(given, "the diagonal")[0]
    if as_int(k) is not None:
        k = max(min(int(k), 1 << 40), -(1 << 40))  # farther out changes nothing, and sums must not overflow

    def trilu(x: te.Tensor, k: PrimExpr) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            distance = i[-1] - i[-2]
            nearest = prim(k)
            if as_int(k) is None:
                nearest = tirx.max(tirx.min(k, prim(x.shape[-1])), prim(0) - prim(x.shape[-2]))
            kept = distance >= nearest if upper else distance <= nearest
            return tirx.Select(kept, x(*i), tirx.const(0, x.dtype))

        return te.compute(x.shape, element, name="trilu")

    return ctx.te(trilu, ctx.tensor(data), k)
