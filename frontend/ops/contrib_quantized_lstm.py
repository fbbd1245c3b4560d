"""com.microsoft.DynamicQuantizeLSTM: an LSTM with 8-bit weights, as ONNX Runtime's dynamic quantizer writes it.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. The inputs are rounded to 8 bits over their
own range as in ONNX Runtime. The hidden state is not: there it is rounded anew before each step, by parts of the batch
that depend on the number of threads, so its results are within its own rounding of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..quantization import dequantize
from ..registry import converter
from ..values import Value
from .quantize_linear import dynamically_quantized
from .recurrent import lstm


@converter("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value | Sequence[Value]:
    """As ai.onnx's LSTM, with transposed weights [directions, input or hidden, 4 * hidden]."""
    given: list[Any] = list(inputs)
    data, weight, recurrent, *states = given[:8]
    weight_scale, weight_zero, recurrent_scale, recurrent_zero = given[8:12]
    weights = [
        _dequantized(ctx, weight, weight_scale, weight_zero),
        _dequantized(ctx, recurrent, recurrent_scale, recurrent_zero),
    ]
    rounded = dequantize(ctx, *dynamically_quantized(ctx, data))
    return lstm(ctx, node, [rounded, *weights, *states])


def _dequantized(ctx: Context, weight: Value, scale: Value, zero: Value) -> np.ndarray:
    """[directions, 4 * hidden, depth] in float32, from scales for each direction or for each of its columns."""
    matrix, by, offset = (
        ctx.require_constant(value, "the weights and scales of DynamicQuantizeLSTM") for value in (weight, scale, zero)
    )
    directions, _, columns = matrix.shape
    if by.size not in (1, directions, directions * columns) or offset.size != by.size:
        raise ConversionError(f"{by.size} scales and {offset.size} zero points for {directions} weights of {columns}")
    per_direction = by.size == 1 or by.size == directions
    shape = (-1, 1, 1) if per_direction else (directions, 1, columns)
    wide = matrix.astype(np.float32) - offset.astype(np.float32).reshape(shape)
    return np.ascontiguousarray((wide * by.reshape(shape)).transpose(0, 2, 1))
