"""com.microsoft's operators on quantized tensors, element by element: QLinearAdd, QLinearMul, QLinearSigmoid,
QLinearLeakyRelu, QLinearConcat.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Sums and products add the zero point before
they are rounded, as ONNX Runtime does; the others are dequantized, computed and quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax

from ..context import Context
from ..integer_sums import BYTES
from ..node import Node
from ..quantization import dequantize, from_floats, quantize, refuse_other_types, saturated_total, zero_or
from ..registry import converter
from ..values import PrimExpr, Value, tensor_dtype
from .activation import leaky_relu
from .broadcasting import elementwise
from .concat import concat
from .quantized_conv import single

DOMAIN = "com.microsoft"


class Quantized:
    """An operand: 8-bit integers with the one scale and zero point that the operator gives them."""

    def __init__(self, ctx: Context, value: Value, scale: Value, zero: Value | None):
        self.value = value
        self.dtype = tensor_dtype(value)
        refuse_other_types(self.dtype, BYTES, "a quantized operand")
        self.scale = single(ctx, scale)
        self.zero = single(ctx, zero_or(zero, self.dtype))

    def real(self, ctx: Context) -> relax.Expr:
        return ctx.tensor(dequantize(ctx, self.value, self.scale, self.zero))


def quantized_result(ctx: Context, real: Value, scale: Value, zero: Value | None, dtype: str) -> relax.Expr:
    return quantize(ctx, real, single(ctx, scale), single(ctx, zero_or(zero, dtype)))


def _binary_inputs(ctx: Context, inputs: Sequence[Value | None]) -> tuple[Quantized, Quantized, Value, Value]:
    given: list[Any] = [*inputs, None][:8]
    left, right = Quantized(ctx, *given[:3]), Quantized(ctx, *given[3:6])
    return left, right, single(ctx, given[6]), single(ctx, zero_or(given[7], left.dtype))


@converter("QLinearAdd", domain=DOMAIN)
def qlinear_add(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    left, right, scale, zero = _binary_inputs(ctx, inputs)
    factors = [from_floats(ctx, lambda own, out: own / out, side.scale, scale) for side in (left, right)]
    fixed = from_floats(ctx, lambda zc, ra, za, rb, zb: zc - (ra * za + rb * zb),
                        zero, factors[0], left.zero, factors[1], right.zero)  # fmt: skip

    def scalar(a: PrimExpr, by_a: PrimExpr, b: PrimExpr, by_b: PrimExpr, offset: PrimExpr) -> PrimExpr:
        return saturated_total(offset + b.astype("float32") * by_b + a.astype("float32") * by_a, left.dtype)

    return elementwise(ctx, [left.value, factors[0], right.value, factors[1], fixed], scalar, None, "quantized_add")


@converter("QLinearMul", domain=DOMAIN)
def qlinear_mul(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    left, right, scale, zero = _binary_inputs(ctx, inputs)
    factor = from_floats(ctx, lambda a, b, c: a * b / c, left.scale, right.scale, scale)

    def scalar(a: PrimExpr, za: PrimExpr, b: PrimExpr, zb: PrimExpr, by: PrimExpr, zc: PrimExpr) -> PrimExpr:
        product = (a.astype("int32") - za.astype("int32")) * (b.astype("int32") - zb.astype("int32"))
        return saturated_total(product.astype("float32") * by + zc.astype("float32"), left.dtype)

    operands = [left.value, left.zero, right.value, right.zero, factor, zero]
    return elementwise(ctx, operands, scalar, None, "quantized_multiply")


def _through_floats(op_type: str, function: Callable[[Context, Node, relax.Expr], relax.Expr]) -> None:
    def convert(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
        given: list[Any] = [*inputs, None][:5]
        data = Quantized(ctx, *given[:3])
        return quantized_result(ctx, function(ctx, node, data.real(ctx)), given[3], given[4], data.dtype)

    converter(op_type, domain=DOMAIN)(convert)


_through_floats("QLinearSigmoid", lambda ctx, _node, x: ctx.emit(relax.op.sigmoid(x)))
_through_floats("QLinearLeakyRelu", leaky_relu)


@converter("QLinearConcat", domain=DOMAIN)
def qlinear_concat(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """The output's scale and zero point, then three inputs for each tensor; those are quantized anew."""
    given: list[Any] = list(inputs)
    scale, zero = given[:2]
    parts = [Quantized(ctx, *given[i : i + 3]) for i in range(2, len(given), 3)]
    requantized = [quantized_result(ctx, part.real(ctx), scale, zero, part.dtype) for part in parts]
    return concat(ctx, node, requantized)
