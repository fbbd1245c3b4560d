"""Transpose, DepthToSpace, SpaceToDepth: https://onnx.ai/onnx/operators/onnx__DepthToSpace.html and siblings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import equal, floordiv, known
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..values import Value, tensor_shape
from .shape import normalized_axes


@converter("Transpose")
def transpose(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    dims = tensor_shape(inputs[0])
    order = node.attr("perm", list(range(len(dims)))[::-1])
    if sorted(normalized_axes(order, len(dims))) != list(range(len(dims))):
        raise ConversionError(f"perm {order} is no permutation of {len(dims)} axes")
    if len(dims) < 2:
        return inputs[0]
    if isinstance(inputs[0], np.ndarray):
        return np.ascontiguousarray(inputs[0].transpose(order))
    return ctx.emit(relax.op.permute_dims(ctx.tensor(inputs[0]), order))


@converter("DepthToSpace")
def depth_to_space(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    block, mode = node.attr("blocksize"), _mode(node)
    n, c, h, w = _image(inputs[0])
    depth = _divided(ctx, c, block * block, "channels")
    shape = [n, depth, ctx.simplify(h * block), ctx.simplify(w * block)]

    def depth_to_space(x: te.Tensor, shape: list, depth: tirx.PrimExpr) -> te.Tensor:
        def element(n: tirx.Var, c: tirx.Var, y: tirx.Var, x_: tirx.Var) -> tirx.PrimExpr:
            place = (y % block) * block + x_ % block
            channel = place * depth + c if mode == "DCR" else c * (block * block) + place
            return x(n, channel, y // block, x_ // block)

        return te.compute(prim_list(shape), element, name="depth_to_space")

    return ctx.te(depth_to_space, ctx.tensor(inputs[0]), shape, depth)


@converter("SpaceToDepth")
def space_to_depth(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    block, mode = node.attr("blocksize"), _mode(node)
    n, c, h, w = _image(inputs[0])
    shape = [n, ctx.simplify(c * block * block), _divided(ctx, h, block, "rows"), _divided(ctx, w, block, "columns")]

    def space_to_depth(x: te.Tensor, shape: list, channels: tirx.PrimExpr) -> te.Tensor:
        def element(n: tirx.Var, c: tirx.Var, y: tirx.Var, x_: tirx.Var) -> tirx.PrimExpr:
            place = c // channels if mode == "DCR" else c % (block * block)
            channel = c % channels if mode == "DCR" else c // (block * block)
            return x(n, channel, y * block + place // block, x_ * block + place % block)

        return te.compute(prim_list(shape), element, name="space_to_depth")

    return ctx.te(space_to_depth, ctx.tensor(inputs[0]), shape, c)


def _mode(node: Node) -> str:
    """Which comes first in the channels, the place in the block (DCR) or the depth (CRD)."""
    mode = node.attr("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ConversionError(f"mode {mode!r} is neither DCR nor CRD")
    return mode


def _image(value: Value) -> tuple:
    dims = tensor_shape(value)
    if len(dims) != 4:
        raise ConversionError(f"needs a tensor of rank 4 (batch, channels, rows, columns), found rank {len(dims)}")
    return dims


def _divided(ctx: Context, size: tirx.PrimExpr, by: int, what: str) -> tirx.PrimExpr:
    if known(size) and int(size) % by:
        raise ConversionError(f"{size} {what} are no multiple of {by}")
    part = ctx.simplify(floordiv(size, by))
    ctx.check(equal(part * by, size))
    return part
