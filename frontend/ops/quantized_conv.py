"""ConvInteger and QLinearConv: https://onnx.ai/onnx/operators/onnx__QLinearConv.html.

Padding stands for the zero point, which is 0 once the zero point is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from ...errors import ConversionError
from ..context import Context
from ..integer_sums import BYTES, EXACT, added, as_bytes, as_int32, exact_parts, fits_weights, largest, shifted
from ..node import Node
from ..quantization import combined_scale, refuse_other_types, requantize
from ..registry import converter
from ..values import Value, as_int, rank, tensor_dtype, tensor_shape
from ..windows import Window, window_of
from .conv import biased, convolve, kernel_of, with_channels
from .quantized_matmul import shifted_constant
from .slice import Cut, take_cuts


@converter("ConvInteger", since=10)
def conv_integer(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, weight, data_zero, weight_zero = [*inputs, None, None][:4]
    assert data is not None and weight is not None
    return integer_conv(ctx, node, data, weight, data_zero, weight_zero)


@converter("QLinearConv", since=10)
def qlinear_conv(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, data_scale, data_zero, weight, weight_scale, weight_zero, scale, zero, bias = [*inputs, None][:9]
    assert data is not None and weight is not None and zero is not None
    assert data_scale is not None and weight_scale is not None and scale is not None
    refuse_other_types(tensor_dtype(zero), BYTES, "a quantized convolution")
    sums = integer_conv(ctx, node, data, weight, data_zero, weight_zero)
    factor = combined_scale(ctx, single(ctx, data_scale), single(ctx, weight_scale), single(ctx, scale))
    return requantize(ctx, biased(ctx, sums, bias), _by_output(ctx, factor, rank(data), 1), single(ctx, zero))


def single(ctx: Context, parameter: Value) -> Value:
    """A parameter that is one number, without dims; others as they are."""
    return ctx.reshape(parameter, []) if all(as_int(dim) == 1 for dim in tensor_shape(parameter)) else parameter


def _by_output(ctx: Context, parameter: Value, dims: int, axis: int) -> Value:
    """One number per output channel, along ``axis`` of a tensor of ``dims`` dims; a single number as it is."""
    if rank(parameter) == 0:
        return parameter
    if rank(parameter) != 1:
        raise ConversionError(f"scales and zero points are numbers or vectors, found {list(tensor_shape(parameter))}")
    return ctx.reshape(parameter, [*[1] * axis, *tensor_shape(parameter), *[1] * (dims - axis - 1)])


def integer_conv(
    ctx: Context, node: Node, data: Value, weight: Value, data_zero: Value | None, weight_zero: Value | None
) -> relax.Expr:
    """The convolution of 8-bit integers, less their zero points, in int32."""
    for value in (data, weight):
        refuse_other_types(tensor_dtype(value), BYTES, "a factor of an integer convolution")
    groups, kernel = node.attr("group", 1), kernel_of(node, data, weight)
    data = with_channels(ctx, data, tensor_shape(weight)[1] * groups)
    window = window_of(ctx, node, tensor_shape(data)[2:], kernel)
    data_zero = None if data_zero is None else single(ctx, data_zero)
    if weight_zero is not None:
        weight_zero = _by_output(ctx, single(ctx, weight_zero), rank(weight), 0)
    if rank(data) == 4 and (groups == 1 or (groups == tensor_shape(weight)[0] and tensor_shape(weight)[1] == 1)):
        direct = as_bytes(ctx, data, weight, data_zero, weight_zero, (1, 2, 3))
        if direct is not None:
            sums = convolve(ctx, direct.data, direct.weight, window, groups, "int32", direct.zero)
            return direct.less_zero(ctx, sums, direct.weight.sum(axis=(1, 2, 3), dtype=np.int64).reshape(1, -1, 1, 1))
    parts = _parts(data, weight, data_zero, weight_zero)
    if parts is None:
        wide = shifted(ctx, data, data_zero, "int32"), shifted(ctx, weight, weight_zero, "int32")
        return convolve(ctx, *wide, window, groups)
    x, w = shifted(ctx, data, data_zero), shifted(ctx, weight, weight_zero)
    if len(parts) == 1:
        return as_int32(ctx, convolve(ctx, x, w, window, groups))
    return added(ctx, [_part(ctx, x, w, window, groups, *part) for part in parts])


def _parts(
    data: Value, weight: Value, data_zero: Value | None, weight_zero: Value | None
) -> list[tuple[int, int]] | None:
    """Parts of a group's input channels whose sums float32 holds; None where one channel is too much already."""
    bound = largest(data, data_zero)
    channels, window = int(tensor_shape(weight)[1]), int(np.prod([int(dim) for dim in tensor_shape(weight)[2:]]))
    known = shifted_constant(weight, weight_zero)
    if known is not None:
        magnitudes = np.abs(known).reshape(known.shape[0], channels, window).sum(axis=2).T
        fits = fits_weights(magnitudes, bound)
        return exact_parts(channels, fits) if all(fits(i, i + 1) for i in range(channels)) else None
    size = EXACT // (bound * largest(weight, weight_zero) * window)
    return exact_parts(channels, lambda start, end: end - start <= size) if size else None


def _part(ctx: Context, x: Value, w: Value, window: Window, groups: int, start: int, length: int) -> relax.Expr:
    """What ``length`` of each group's input channels add to the sums."""
    channels = int(tensor_shape(w)[1])
    if isinstance(w, np.ndarray):
        taken: Value = w[:, start : start + length]
    else:
        taken = take_cuts(ctx, w, {1: Cut(start, length, 1)})
    slices = [take_cuts(ctx, x, {1: Cut(group * channels + start, length, 1)}) for group in range(groups)]
    joined = slices[0] if groups == 1 else ctx.emit(relax.op.concat([ctx.tensor(item) for item in slices], 1))
    return as_int32(ctx, convolve(ctx, joined, taken, window, groups))
