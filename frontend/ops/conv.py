"""Conv in 1, 2 and 3 dimensions: https://onnx.ai/onnx/operators/onnx__Conv.html."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from ...errors import ConversionError
from ..arith import known
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape
from ..values import PrimExpr, Value, as_int, tensor_dtype, tensor_shape
from ..windows import Window, output_sizes, window_of
from .pad import Border, pad

_CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}
NARROW = ("float16", "bfloat16")
"""Types whose sums are kept in float32, as other runtimes do."""


@converter("Conv")
def conv(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, weight = inputs[0], inputs[1]
    assert data is not None and weight is not None
    groups = node.attr("group", 1)
    kernel = kernel_of(node, data, weight)
    data = with_channels(ctx, data, tensor_shape(weight)[1] * groups)
    window = window_of(ctx, node, tensor_shape(data)[2:], kernel)
    out = convolve(ctx, data, weight, window, groups)
    return biased(ctx, out, inputs[2] if len(inputs) > 2 else None)


def kernel_of(node: Node, data: Value, weight: Value) -> list[int]:
    """The weight's spatial sizes, which must be known and agree with the attribute; refuses ranks that don't fit."""
    dims = tensor_shape(weight)
    if len(dims) != len(tensor_shape(data)) or len(dims) - 2 not in _CONVOLUTIONS:
        raise ConversionError(
            f"input of rank {len(tensor_shape(data))} and weight of rank {len(dims)}: 3, 4 or 5 are taken"
        )
    if not known(*dims):
        raise ConversionError(f"the weight's shape must be known when compiling, found {list(dims)}")
    kernel = [int(dim) for dim in dims[2:]]
    if node.attr("kernel_shape", kernel) != kernel:
        raise ConversionError(f"kernel_shape is {node.attr('kernel_shape')}, the weight has {kernel}")
    return kernel


def with_channels(ctx: Context, data: Value, channels: PrimExpr) -> Value:
    """The input with its channels known to be as many as the weight needs: checked at run time where they are open."""
    dims = tensor_shape(data)
    if ctx.equal(dims[1], channels):
        return data
    if known(dims[1], channels):
        raise ConversionError(f"the input has {dims[1]} channels, the weight needs {channels}")
    shape = prim_list([dims[0], channels, *dims[2:]])
    return ctx.builder.match_cast(ctx.tensor(data), relax.TensorType(shape, tensor_dtype(data)))


def convolve(
    ctx: Context,
    data: Value,
    weight: Value,
    window: Window,
    groups: int,
    out_dtype: str = "",
    fill: Value | None = None,
) -> relax.Expr:
    """``out_dtype`` is the sums' type if not the operands'; ``fill`` is what padding holds if not 0."""
    dims, spatial = tensor_shape(data), len(window.kernel)
    features = int(tensor_shape(weight)[0])
    if features % groups:
        raise ConversionError(f"{features} output channels can't be split into {groups} groups")
    shape = [dims[0], features, *output_sizes(ctx, window, dims[2:])]
    dtype = out_dtype or tensor_dtype(data)
    if any(as_int(dim) == 0 for dim in shape):
        return ctx.empty(dtype, shape)
    pads = window.fixed_pads
    if pads is None or (fill is not None and any(pads)):
        borders = zip(window.before, window.after, strict=True)
        data = pad(ctx, data, {2 + i: Border(*border) for i, border in enumerate(borders)}, fill=fill)
        pads = [0] * 2 * spatial
    call = _CONVOLUTIONS[spatial](
        ctx.tensor(data),
        ctx.tensor(weight),
        strides=list(window.strides),
        padding=pads,
        dilation=list(window.dilations),
        groups=groups,
        out_dtype="float32" if dtype in NARROW else dtype,
    )
    out = emit_if_shape(ctx, call, shape)
    if out is None:
        out = ctx.builder.match_cast(ctx.emit(call), relax.TensorType(prim_list(shape), str(call_dtype(dtype))))
    return ctx.emit(relax.op.astype(out, dtype)) if dtype in NARROW else out


def call_dtype(dtype: str) -> str:
    return "float32" if dtype in NARROW else dtype


def biased(ctx: Context, out: relax.Expr, bias: Value | None) -> relax.Expr:
    """``out`` plus one number per channel."""
    if bias is None:
        return out
    dims = tensor_shape(out)
    if len(tensor_shape(bias)) != 1 or not ctx.equal(tensor_shape(bias)[0], dims[1]):
        raise ConversionError(f"the bias has shape {list(tensor_shape(bias))}, there are {dims[1]} output channels")
    if isinstance(bias, np.ndarray) and not bias.any() and as_int(dims[1]) is not None:
        return out
    shaped = ctx.reshape(bias, [1, dims[1], *[1] * (len(dims) - 2)])
    return ctx.emit(relax.op.add(out, ctx.tensor(shaped)))
