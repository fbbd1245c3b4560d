"""Gather, GatherElements, GatherND: https://onnx.ai/onnx/operators/onnx__Gather.html and siblings.

Negative indices count from the end. Indices out of range that are only known at run time are clamped to the nearest
element, so that no data can make the compiled code read out of bounds; those known when compiling are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import te, tirx

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..values import PrimExpr, SymbolicInts, Value, as_int, rank, tensor_shape
from .shape import normalized_axes
from .slice import Cut, take_cuts


def inside(index: PrimExpr, size: PrimExpr) -> PrimExpr:
    """``index`` (any integer type) as an int64 position in a dim of ``size``, clamped."""
    wide = index.astype("int64")
    size = prim(size)
    wrapped = tirx.Select(wide < 0, wide + size, wide)
    return tirx.max(tirx.min(wrapped, size - 1), tirx.const(0, "int64"))


def known_indices(value: Value, size: PrimExpr) -> np.ndarray | None:
    """Constant indices counted from the front; a refusal of those that can't exist in a dim of known size."""
    if not isinstance(value, np.ndarray) or not known(size):
        return None
    indices = value.astype(np.int64)
    wrong = (indices < -int(size)) | (indices >= int(size))
    if wrong.any():
        raise ConversionError(f"index {indices[wrong].reshape(-1)[0]} does not exist in a dim of size {size}")
    return np.where(indices < 0, indices + int(size), indices)


@converter("Gather")
def gather(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, indices = inputs
    dims = tensor_shape(data)
    (axis,) = normalized_axes([node.attr("axis", 0)], len(dims))
    fixed = known_indices(indices, dims[axis])
    if fixed is not None and not fixed.ndim:
        return _one(ctx, data, axis, int(fixed))
    if isinstance(indices, SymbolicInts) and not indices.shape:
        return _at_expression(ctx, data, axis, indices.elements.item())
    refuse_empty(ctx, dims[axis], tensor_shape(indices))
    where = ctx.tensor(indices if fixed is None else fixed)
    shape = [*dims[:axis], *tensor_shape(indices), *dims[axis + 1 :]]
    count = rank(indices)

    def take(x: te.Tensor, places: te.Tensor, shape: list) -> te.Tensor:
        def element(*i: tirx.Var) -> tirx.PrimExpr:
            place = places(*i[axis : axis + count])
            place = inside(place, x.shape[axis]) if fixed is None else place
            return x(*i[:axis], place, *i[axis + count :])

        return te.compute(prim_list(shape), element, name="take")

    return ctx.te(take, ctx.tensor(data), where, shape)


def _one(ctx: Context, data: Value, axis: int, index: int) -> Value:
    """A constant scalar index is a slice, which layout passes know and fusion sees through."""
    dims = tensor_shape(data)
    return ctx.reshape(take_cuts(ctx, data, {axis: Cut(index, 1, 1)}), [*dims[:axis], *dims[axis + 1 :]])


def _at_expression(ctx: Context, data: Value, axis: int, index: PrimExpr) -> Value:
    dims = tensor_shape(data)
    refuse_empty(ctx, dims[axis], ())

    def take_at(x: te.Tensor, index: PrimExpr, shape: list) -> te.Tensor:
        place = inside(prim(index), x.shape[axis])
        return te.compute(prim_list(shape), lambda *i: x(*i[:axis], place, *i[axis:]), name="take_at")

    return ctx.te(take_at, ctx.tensor(data), index, [*dims[:axis], *dims[axis + 1 :]])


def refuse_empty(ctx: Context, size: PrimExpr, indices: Sequence[PrimExpr]) -> None:
    """Nothing can be read from a dim of size 0; with no index, nothing is."""
    if any(as_int(dim) == 0 for dim in indices):
        return
    if as_int(size) == 0:
        raise ConversionError("elements are taken from a dim of size 0")
    if not known(size):
        empty = [prim(dim) == 0 for dim in indices if not known(dim)]
        condition = prim(size) > 0
        for other in empty:
            condition = tirx.Or(condition, other)
        ctx.check(condition)


@converter("GatherElements")
def gather_elements(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, indices = inputs
    dims, shape = tensor_shape(data), tensor_shape(indices)
    if len(dims) != len(shape):
        raise ConversionError(f"data has rank {len(dims)}, indices have rank {len(shape)}")
    (axis,) = normalized_axes([node.attr("axis", 0)], len(dims))
    known_indices(indices, dims[axis])
    refuse_empty(ctx, dims[axis], shape)
    for i, (size, count) in enumerate(zip(dims, shape, strict=True)):
        if i != axis:
            require(ctx, count, size, f"indices along axis {i}")

    def gather_elements(x: te.Tensor, places: te.Tensor) -> te.Tensor:
        def element(*i: tirx.Var) -> tirx.PrimExpr:
            return x(*i[:axis], inside(places(*i), x.shape[axis]), *i[axis + 1 :])

        return te.compute(places.shape, element, name="gather_elements")

    return ctx.te(gather_elements, ctx.tensor(data), ctx.tensor(indices))


def require(ctx: Context, count: PrimExpr, size: PrimExpr, what: str) -> None:
    """Refuse, now or at run time, more positions than a dim has."""
    if known(count, size):
        if int(count) > int(size):
            raise ConversionError(f"{what}: {count} are more than the {size} that the data has")
        return
    ctx.check(prim(count) <= prim(size))


@converter("GatherND")
def gather_nd(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, indices = inputs
    batch = node.attr("batch_dims", 0)
    dims, where = tensor_shape(data), tensor_shape(indices)
    depth = index_depth(where, len(dims) - batch)
    shared = [
        same_dim(ctx, [a, b], f"batch dim {i}")
        for i, (a, b) in enumerate(zip(dims[:batch], where[:batch], strict=True))
    ]
    for size in dims[batch : batch + depth]:
        refuse_empty(ctx, size, where[:-1])
    shape = [*shared, *where[batch:-1], *dims[batch + depth :]]
    lead = len(where) - 1

    def gather_nd(x: te.Tensor, places: te.Tensor, shape: list) -> te.Tensor:
        def element(*i: tirx.Var) -> tirx.PrimExpr:
            found = [inside(places(*i[:lead], k), x.shape[batch + k]) for k in range(depth)]
            return x(*i[:batch], *found, *i[lead:])

        return te.compute(prim_list(shape), element, name="gather_nd")

    return ctx.te(gather_nd, ctx.tensor(data), ctx.tensor(indices), shape)


def index_depth(indices: Sequence[PrimExpr], most: int) -> int:
    """How many dims each index tuple addresses: the indices' last dim, which must be known."""
    depth = as_int(indices[-1]) if indices else None
    if depth is None:
        raise ConversionError("the last dim of the indices must be known when compiling")
    if not 0 < depth <= most:
        raise ConversionError(f"index tuples have {depth} entries for {most} dims")
    return depth
