"""com.microsoft.DynamicQuantizeLSTM: an LSTM with 8-bit weights, as ONNX Runtime's dynamic quantizer writes it.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. The inputs are rounded to 8 bits over their
own range, the hidden state anew before each step: over the whole batch, as ONNX Runtime does on one thread. On several
it takes parts of the batch, so that its answers then depend on their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..quantization import from_floats
from ..registry import converter
from ..values import Value
from .broadcasting import elementwise
from .quantize_linear import dynamically_quantized
from .quantized_matmul import integer_matmul
from .recurrent import Bytes, quantized_lstm


@converter("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value | Sequence[Value]:
    """As ai.onnx's LSTM, with transposed weights [directions, input or hidden, 4 * hidden]."""
    given: list[Any] = list(inputs)
    data, weight, recurrent, *states = given[:8]
    weight_scale, weight_zero, recurrent_scale, recurrent_zero = given[8:12]
    matrix, by, offset = _columns(ctx, weight, weight_scale, weight_zero)
    inner, scale, zero = _columns(ctx, recurrent, recurrent_scale, recurrent_zero)
    rounded, data_scale, data_zero = dynamically_quantized(ctx, data)

    def project(direction: int) -> relax.Expr:
        offsets = _fewest(offset[direction]) if offset.any() else None
        sums = integer_matmul(ctx, rounded, matrix[direction], data_zero, offsets)
        factor = from_floats(ctx, lambda a, b: a * b, data_scale, _fewest(by[direction]))
        return elementwise(ctx, [sums, factor], lambda x, f: x.astype("float32") * f, None, "scaled")

    floats = [np.broadcast_to(np.float32(0), array.transpose(0, 2, 1).shape) for array in (matrix, inner)]
    return quantized_lstm(ctx, node, [data, *floats, *states], Bytes(project, inner, scale, zero.astype(np.float32)))


def _fewest(values: np.ndarray) -> np.ndarray:
    """One number where all are the same."""
    return np.asarray(values[0]) if (values == values[0]).all() else values


def _columns(ctx: Context, weight: Value, scale: Value, zero: Value) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weight [directions, depth, 4 * hidden], its scales and its zero points for each column of each direction."""
    matrix, by, offset = (
        ctx.require_constant(value, "the weights and scales of DynamicQuantizeLSTM") for value in (weight, scale, zero)
    )
    directions, _, columns = matrix.shape
    if by.size not in (1, directions, directions * columns) or offset.size != by.size:
        raise ConversionError(f"{by.size} scales and {offset.size} zero points for {directions} weights of {columns}")
    shape = (-1, 1) if by.size <= directions else (directions, columns)
    spread = [np.ascontiguousarray(np.broadcast_to(a.reshape(shape), (directions, columns))) for a in (by, offset)]
    return matrix, spread[0], spread[1]
