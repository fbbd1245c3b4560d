"""Tile: https://onnx.ai/onnx/operators/onnx__Tile.html."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from ...errors import ConversionError
from ..arith import known
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, tensor_shape
from .shape import normalized_axes


@converter("Tile", since=6)
def tile_6(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return _tile(ctx, inputs[0], ctx.ints(inputs[1], "repeats"))


@converter("Tile", since=1)
def tile_1(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    """Repeats along one axis, both given as tensors of one element."""
    dims = tensor_shape(inputs[0])
    axis = int(ctx.require_constant(inputs[2], "axis").reshape(-1)[0])
    repeats: list[PrimExpr] = [1] * len(dims)
    repeats[normalized_axes([axis], len(dims))[0]] = ctx.ints(inputs[1], "tiles")[0]
    return _tile(ctx, inputs[0], repeats)


def _tile(ctx: Context, data: Value, repeats: Sequence[PrimExpr]) -> Value:
    dims = tensor_shape(data)
    if len(repeats) != len(dims):
        raise ConversionError(f"{len(repeats)} repeats for a tensor of rank {len(dims)}")
    for count in repeats:
        if known(count) and int(count) < 0:
            raise ConversionError(f"a tensor can't be repeated {count} times")
        if not known(count):
            ctx.check(count >= 0)
    shape = [ctx.simplify(dim * count) for dim, count in zip(dims, repeats, strict=True)]
    repeated = [axis for axis, count in enumerate(repeats) if as_int(count) != 1]
    if not repeated:
        return data

    def tile(x: te.Tensor, shape: list) -> te.Tensor:
        def element(*index: tirx.Var) -> PrimExpr:
            at = list(index)
            for axis in repeated:
                at[axis] = tirx.const(0, "int64") if as_int(x.shape[axis]) in (0, 1) else index[axis] % x.shape[axis]
            return x(*at)

        return te.compute(prim_list(shape), element, name="tile")

    return ctx.te(tile, ctx.tensor(data), shape)
