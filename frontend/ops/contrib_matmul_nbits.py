"""com.microsoft.MatMulNBits: a product with weights of 2, 4 or 8 bits in blocks, each with a scale and a zero point.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Constant weights become float32 while
compiling: the product is then an ordinary one, with ONNX Runtime's values at its accuracy level 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, tensor_dtype
from .elementwise import add
from .matmul import matmul
from .precision import cast_to, widened

BITS = (2, 4, 8)


@converter("MatMulNBits", domain="com.microsoft")
def matmul_nbits(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """[..., K] x weights [N, blocks, bytes] to [..., N]."""
    given: list[Any] = [*inputs, None, None, None][:6]
    data, weight, scales, zeros, order, bias = given
    if order is not None:
        raise ConversionError("g_idx is not supported: sort the weight's rows by it")
    packed = ctx.require_constant(weight, "the weight of MatMulNBits")
    scales = ctx.require_constant(scales, "the scales of MatMulNBits")
    zeros = None if zeros is None else ctx.require_constant(zeros, "the zero points of MatMulNBits")
    matrix = dequantized(node, packed, scales, zeros)
    product = matmul(ctx, widened(ctx, data), np.ascontiguousarray(matrix.T))
    if bias is not None:
        product = add(ctx, product, widened(ctx, bias))
    return cast_to(ctx, product, tensor_dtype(data))


def dequantized(node: Node, packed: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None) -> np.ndarray:
    """The weight [N, K] in float32. Low bits come first in a byte."""
    bits, block = node.attr("bits", 4), node.attr("block_size")
    rows, depth = node.attr("N"), node.attr("K")
    if bits not in BITS or node.attr("weight_prepacked", 0):
        raise ConversionError(f"weights of {bits} bits, prepacked or not: {BITS} bits are taken, not prepacked")
    blocks = -(-depth // block)
    if packed.size != rows * blocks * (block * bits // 8):
        raise ConversionError(f"the weight has {packed.size} bytes for {rows} rows of {blocks} blocks of {block}")
    values = unpacked(packed.reshape(rows, -1), bits).reshape(rows, blocks, block).astype(np.float32)
    scale = scales.reshape(rows, blocks, 1).astype(np.float32)
    if zeros is None:
        offset = np.full((1, 1, 1), 1 << (bits - 1), np.float32)
    elif zeros.dtype == np.uint8:
        offset = unpacked(zeros.reshape(rows, -1), bits)[:, :blocks, None].astype(np.float32)
    else:
        offset = zeros.reshape(rows, blocks, 1).astype(np.float32)
    return ((values - offset) * scale).reshape(rows, blocks * block)[:, :depth]


def unpacked(data: np.ndarray, bits: int) -> np.ndarray:
    """[rows, bytes] to [rows, numbers] of uint8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((data[:, :, None] >> shifts) & ((1 << bits) - 1)).reshape(data.shape[0], -1)
