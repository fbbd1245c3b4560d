"""com.microsoft's products of quantized matrices: QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax

from ..context import Context
from ..integer_sums import BYTES
from ..node import Node
from ..quantization import from_floats, refuse_other_types, requantize
from ..registry import converter
from ..values import PrimExpr, Value, tensor_dtype
from .broadcasting import elementwise
from .elementwise import add
from .matmul import transposed
from .quantize_linear import dynamically_quantized
from .quantized_conv import single
from .quantized_matmul import integer_matmul

DOMAIN = "com.microsoft"


@converter("QGemm", domain=DOMAIN)
def qgemm(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """alpha * A' * B' + C, where C holds int32 sums; float32 where the output has no scale."""
    given: list[Any] = [*inputs, None, None, None][:9]
    left, left_scale, left_zero, right, right_scale, right_zero, bias, scale, zero = given
    left = transposed(ctx, left) if node.attr("transA", 0) else left
    right = transposed(ctx, right) if node.attr("transB", 0) else right
    sums = integer_matmul(ctx, left, right, single(ctx, left_zero), single(ctx, right_zero))
    if bias is not None:
        sums = add(ctx, sums, bias)
    alpha = np.float32(node.attr("alpha", 1.0))
    factor = from_floats(ctx, lambda a, b: a * b, single(ctx, left_scale), single(ctx, right_scale))
    if alpha != 1.0:
        factor = from_floats(ctx, lambda a, by: by * a, factor, np.asarray(alpha))
    if scale is None:
        return _scaled(ctx, sums, factor, None)
    refuse_other_types(tensor_dtype(zero), BYTES, "a quantized product")
    return requantize(ctx, sums, from_floats(ctx, lambda a, b: a / b, factor, single(ctx, scale)), single(ctx, zero))


@converter("MatMulIntegerToFloat", domain=DOMAIN)
def matmul_integer_to_float(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    given: list[Any] = [*inputs, None, None, None][:7]
    left, right, left_scale, right_scale, left_zero, right_zero, bias = given
    zeros = (None if zero is None else single(ctx, zero) for zero in (left_zero, right_zero))
    factor = from_floats(ctx, lambda a, b: a * b, single(ctx, left_scale), single(ctx, right_scale))
    return _scaled(ctx, integer_matmul(ctx, left, right, *zeros), factor, bias)


@converter("DynamicQuantizeMatMul", domain=DOMAIN)
def dynamic_quantize_matmul(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    """The left side is quantized over its own range when the model runs."""
    given: list[Any] = [*inputs, None, None][:5]
    data, right, right_scale, right_zero, bias = given
    left, left_scale, left_zero = dynamically_quantized(ctx, data)
    sums = integer_matmul(ctx, left, right, left_zero, None if right_zero is None else single(ctx, right_zero))
    return _scaled(ctx, sums, from_floats(ctx, lambda a, b: a * b, left_scale, single(ctx, right_scale)), bias)


def _scaled(ctx: Context, sums: Value, factor: Value, bias: Value | None) -> relax.Expr:
    """int32 sums as float32, times ``factor``, plus ``bias``."""

    def scalar(x: PrimExpr, by: PrimExpr) -> PrimExpr:
        return x.astype("float32") * by

    real = elementwise(ctx, [sums, factor], scalar, None, "scaled")
    return real if bias is None else add(ctx, real, bias)
