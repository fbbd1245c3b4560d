"""LpNormalization and LRN, which normalise by a norm. https://onnx.ai/onnx/operators/onnx__LRN.html"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, rank, tensor_dtype
from .activation import number
from .elementwise import add, divide, multiply
from .logical import where
from .precision import in_float32
from .reduce import l1, l2
from .shape import normalized_axes


@converter("LpNormalization")
def lp_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """x / norm along an axis; all zeros stay zeros."""
    (axis,) = normalized_axes([node.attr("axis", -1)], rank(inputs[0]))
    order = node.attr("p", 2)
    if order not in (1, 2):
        raise ConversionError(f"p must be 1 or 2, found {order}")

    def normalized(x: relax.Expr) -> relax.Expr:
        norm = (l1 if order == 1 else l2)(ctx, x, [axis], True)
        is_zero = ctx.emit(relax.op.equal(norm, ctx.tensor(number(0, x))))
        return divide(ctx, x, where(ctx, is_zero, number(1, x), norm))

    return in_float32(ctx, inputs[0], normalized)


@converter("LRN")
def lrn(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """x / (bias + alpha / size * sum of squares over ``size`` neighbouring channels) ** beta"""
    size = node.attr("size")
    alpha, beta, bias = node.attr("alpha", 1e-4), node.attr("beta", 0.75), node.attr("bias", 1.0)
    before = (size - 1) // 2

    def neighbours(data: te.Tensor) -> te.Tensor:
        channels = data.shape[1]
        k = te.reduce_axis((0, size), "k")
        zero = tirx.const(0, str(data.dtype))

        def element(n: tirx.Var, c: tirx.Var, *rest: tirx.Var) -> PrimExpr:
            channel = c + k - before
            inside = tirx.all(channel >= 0, channel < channels)
            value = data(n, tirx.max(tirx.min(channel, channels - 1), 0), *rest)
            return te.sum(tirx.Select(inside, value * value, zero), axis=k)

        return te.compute(data.shape, element, name="lrn_square_sum")

    def normalized(x: relax.Expr) -> relax.Expr:
        squares = ctx.te(neighbours, x, name="lrn_square_sum")
        base = add(ctx, multiply(ctx, squares, number(alpha / size, x)), number(bias, x))
        return divide(ctx, x, ctx.emit(relax.op.power(base, ctx.tensor(number(beta, x)))))

    if not tensor_dtype(inputs[0]).startswith(("float", "bfloat")):
        raise ConversionError(f"LRN takes floats, found {tensor_dtype(inputs[0])}")
    return in_float32(ctx, inputs[0], normalized)
