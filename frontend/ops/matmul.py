"""MatMul and Gemm. https://onnx.ai/onnx/operators/onnx__MatMul.html, https://onnx.ai/onnx/operators/onnx__Gemm.html

16-bit floats are accumulated in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape, same_dim
from ..values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape
from .activation import number
from .broadcasting import broadcast, broadcast_to
from .elementwise import add, aligned, is_integer, multiply
from .empty import filled_if_empty
from .precision import HALF, cast_to

FEW_ROWS = 8
"""Rows of a matrix from which on its product with another is efficient by itself."""


@converter("MatMul")
def convert_matmul(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return matmul(ctx, inputs[0], inputs[1])


def matmul(ctx: Context, left: Value, right: Value, out_dtype: str = "") -> relax.Expr:
    """NumPy's matmul; batch dims broadcast, also where their sizes are known only at run time.

    ``out_dtype`` is the type of the sums where it isn't the operands'.
    """
    a, b = tensor_shape(left), tensor_shape(right)
    if not a or not b:
        raise ConversionError(f"MatMul needs tensors of rank 1 or more, found shapes {list(a)} and {list(b)}")
    inner = same_dim(ctx, [a[-1], b[-2] if len(b) > 1 else b[0]], "the dims that are summed over")
    batch = broadcast(ctx, [a[:-2], b[:-2]]).shape
    shape = [*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())]
    dtype = out_dtype or tensor_dtype(left)
    accumulator = "float32" if dtype in HALF else out_dtype or None
    if len(b) == 2 and _has_few_rows(a):
        rows = matmul(ctx, ctx.reshape(left, [math.prod(a[1:-1], start=a[0]), a[-1]]), right, out_dtype)
        return ctx.tensor(ctx.reshape(rows, shape))
    product = emit_if_shape(ctx, relax.op.matmul(ctx.tensor(left), ctx.tensor(right), accumulator), shape)
    if product is None:
        operands = [
            _with_dims(ctx, left, [*batch, *a[-2:-1], inner]),
            _with_dims(ctx, right, [*batch, inner, *b[-1:]] if len(b) > 1 else [inner]),
        ]
        product = ctx.emit(relax.op.matmul(*operands, accumulator))
        tensor_shape(product)  # refuses where Relax lost the shape
    product = filled_if_empty(ctx, product, [inner], lambda dtype: tirx.const(0, dtype))
    return cast_to(ctx, product, dtype)


def _has_few_rows(dims: Sequence[PrimExpr]) -> bool:
    """Whether many matrices of a few rows each meet one matrix, which is then read once for all of them: one product.

    Sequences with time in front are of this kind: [time, 1, channels].
    """
    if len(dims) < 3 or as_int(dims[-2]) not in range(1, FEW_ROWS):
        return False
    return any(as_int(dim) != 1 for dim in dims[:-2])


def _with_dims(ctx: Context, value: Value, dims: Sequence[PrimExpr]) -> relax.Expr:
    """The value broadcast to ``dims``; those that are known to be equal are renamed by a reshape, which costs nothing.

    A match would tell the passes that two dims are one, and they would then mix the names up.
    """
    if len(tensor_shape(value)) < 2:
        dims = list(dims[-1:])
    wide = broadcast_to(ctx, value, dims)
    if all(a is b or str(a) == str(b) for a, b in zip(tensor_shape(wide), dims, strict=True)):
        return wide
    return ctx.tensor(ctx.reshape(wide, dims))


@converter("Gemm")
def gemm(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """alpha * A' * B' + beta * C; factors and transposes of constants are worked into them."""
    a, b = inputs[:2]
    assert a is not None and b is not None
    left = transposed(ctx, a) if node.attr("transA", 0) else a
    right = transposed(ctx, b) if node.attr("transB", 0) else b
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    bias = inputs[2] if len(inputs) > 2 else None
    if is_integer(tensor_dtype(a)) and not (alpha in (0.0, 1.0) and beta in (0.0, 1.0)):
        return _scaled_integers(ctx, left, right, bias, alpha, beta)
    if alpha != 1.0 and isinstance(right, np.ndarray):
        right, alpha = (right * number(alpha, right)).astype(right.dtype), 1.0
    result = matmul(ctx, left, right)
    if alpha != 1.0:
        result = multiply(ctx, result, number(alpha, result))
    if bias is None or beta == 0.0:
        return result
    if node.opset < 7:
        bias = aligned(ctx, node, [result, bias])[1]
    if beta != 1.0:
        scaled = isinstance(bias, np.ndarray)
        bias = np.asarray(bias * number(beta, bias), bias.dtype) if scaled else multiply(ctx, bias, number(beta, bias))
    return add(ctx, result, bias)


def _scaled_integers(
    ctx: Context, left: Value, right: Value, bias: Value | None, alpha: float, beta: float
) -> relax.Expr:
    """The factors are floats also for integers: float64, cut off at the end, as the reference has it."""

    def scaled(value: Value, factor: float) -> relax.Expr:
        wide = ctx.emit(relax.op.astype(ctx.tensor(value), "float64"))
        return multiply(ctx, wide, number(factor, wide))

    result = scaled(matmul(ctx, left, right), alpha)
    if bias is not None and beta != 0.0:
        result = add(ctx, result, scaled(bias, beta))
    return ctx.emit(relax.op.astype(result, tensor_dtype(left)))


def transposed(ctx: Context, value: Value) -> Value:
    """A matrix with its two dims exchanged."""
    if rank(value) != 2:
        raise ConversionError(f"Gemm takes matrices, found shape {list(tensor_shape(value))}")
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value.T)
    return ctx.emit(relax.op.permute_dims(ctx.tensor(value), [1, 0]))
