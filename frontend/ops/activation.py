"""Activations: Relu and its relatives, the smooth ones built from exp, erf and tanh, and Clip.

https://onnx.ai/onnx/operators/onnx__Relu.html and siblings. They are emitted as elementary Relax operators, which fuse
into one kernel and which passes know; 16-bit floats are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from tvm import relax

from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, rank, tensor_dtype, tensor_shape
from .broadcasting import elementwise
from .elementwise import add, divide, maximum, minimum, multiply, subtract
from .logical import where
from .precision import in_float32

Activation = Callable[[Context, Node, relax.Expr], relax.Expr]


def number(value: float, like: Value) -> np.ndarray:
    """A scalar constant of another value's dtype."""
    dtype = tensor_dtype(like)
    return np.array(value, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _positive(ctx: Context, x: relax.Expr) -> relax.Expr:
    return ctx.emit(relax.op.greater(x, ctx.tensor(number(0, x))))


def _activation(*op_types: str) -> Callable[[Activation], Activation]:
    def register(function: Activation) -> Activation:
        def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
            return in_float32(ctx, inputs[0], lambda x: function(ctx, node, x))

        for op_type in op_types:
            converter(op_type)(convert)
        return function

    return register


@converter("Relu")
def relu(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return maximum(ctx, number(0, inputs[0]), inputs[0])


@_activation("LeakyRelu")
def leaky_relu(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    scaled = multiply(ctx, x, number(node.attr("alpha", 0.01), x))
    return where(ctx, ctx.emit(relax.op.less(x, ctx.tensor(number(0, x)))), scaled, x)


@converter("PRelu")
def prelu(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """The slope broadcasts to the input; before opset 7 a vector meant one slope per channel (axis 1)."""
    x, slope = inputs
    if node.opset < 7 and rank(slope) == 1 and rank(x) > 2:
        slope = ctx.reshape(slope, [*tensor_shape(slope), *([1] * (rank(x) - 2))])
    negative = elementwise(ctx, [x, number(0, x)], lambda a, b: a < b, relax.op.less, "less")
    return where(ctx, negative, multiply(ctx, x, slope), x)


def _exp_minus_1(ctx: Context, x: relax.Expr) -> relax.Expr:
    return subtract(ctx, ctx.emit(relax.op.exp(x)), number(1, x))


@_activation("Elu")
def elu(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    alpha = number(node.attr("alpha", 1.0), x)
    return where(ctx, _positive(ctx, x), x, multiply(ctx, _exp_minus_1(ctx, x), alpha))


@_activation("Selu")
def selu(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    alpha = number(node.attr("alpha", 1.67326319217681884765625 if node.opset >= 6 else 1.6732), x)
    gamma = number(node.attr("gamma", 1.05070102214813232421875 if node.opset >= 6 else 1.0507), x)
    return multiply(ctx, where(ctx, _positive(ctx, x), x, multiply(ctx, _exp_minus_1(ctx, x), alpha)), gamma)


@_activation("Celu")
def celu(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    alpha = node.attr("alpha", 1.0)
    scaled = divide(ctx, x, number(alpha, x))
    return where(ctx, _positive(ctx, x), x, multiply(ctx, _exp_minus_1(ctx, scaled), number(alpha, x)))


@_activation("ThresholdedRelu")
def thresholded_relu(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    above = ctx.emit(relax.op.greater(x, ctx.tensor(number(node.attr("alpha", 1.0), x))))
    return where(ctx, above, x, number(0, x))


@_activation("HardSigmoid")
def hard_sigmoid(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    return _hard_sigmoid(ctx, x, node.attr("alpha", 0.2), node.attr("beta", 0.5))


def _hard_sigmoid(ctx: Context, x: relax.Expr, alpha: float, beta: float) -> relax.Expr:
    line = add(ctx, multiply(ctx, x, number(alpha, x)), number(beta, x))
    return minimum(ctx, number(1, x), maximum(ctx, number(0, x), line))


@_activation("HardSwish")
def hard_swish(ctx: Context, _node: Node, x: relax.Expr) -> relax.Expr:
    return multiply(ctx, x, _hard_sigmoid(ctx, x, 1 / 6, 0.5))


@_activation("Swish")
def swish(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    alpha = node.attr("alpha", 1.0)
    scaled = x if alpha == 1.0 else multiply(ctx, x, number(alpha, x))
    return multiply(ctx, x, ctx.emit(relax.op.sigmoid(scaled)))


@_activation("Softplus")
def softplus(ctx: Context, _node: Node, x: relax.Expr) -> relax.Expr:
    return _softplus(ctx, x)


def _softplus(ctx: Context, x: relax.Expr) -> relax.Expr:
    """max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    small = ctx.emit(relax.op.exp(ctx.emit(relax.op.negative(ctx.emit(relax.op.abs(x))))))
    return add(ctx, maximum(ctx, number(0, x), x), ctx.emit(relax.op.log(add(ctx, small, number(1, x)))))


@_activation("Softsign")
def softsign(ctx: Context, _node: Node, x: relax.Expr) -> relax.Expr:
    return divide(ctx, x, add(ctx, ctx.emit(relax.op.abs(x)), number(1, x)))


@_activation("Mish")
def mish(ctx: Context, _node: Node, x: relax.Expr) -> relax.Expr:
    return multiply(ctx, x, ctx.emit(relax.op.tanh(_softplus(ctx, x))))


@_activation("Gelu")
def gelu(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    return gelu_of(ctx, x, node.attr("approximate", "none") == "tanh")


def gelu_of(ctx: Context, x: relax.Expr, by_tanh: bool) -> relax.Expr:
    if by_tanh:
        cube = multiply(ctx, multiply(ctx, multiply(ctx, x, x), x), number(0.044715, x))
        inner = ctx.emit(relax.op.tanh(multiply(ctx, add(ctx, x, cube), number(math.sqrt(2 / math.pi), x))))
    else:
        inner = ctx.emit(relax.op.erf(multiply(ctx, x, number(math.sqrt(0.5), x))))
    return multiply(ctx, multiply(ctx, x, number(0.5, x)), add(ctx, inner, number(1, x)))


@_activation("Shrink")
def shrink(ctx: Context, node: Node, x: relax.Expr) -> relax.Expr:
    if np.dtype(tensor_dtype(x)).kind in "iu":
        # lambd and bias are floats all the same.
        wide = shrink(ctx, node, ctx.emit(relax.op.astype(x, "float64")))
        return ctx.emit(relax.op.astype(wide, tensor_dtype(x)))
    lambd, bias = node.attr("lambd", 0.5), number(node.attr("bias", 0.0), x)
    above = ctx.emit(relax.op.greater(x, ctx.tensor(number(lambd, x))))
    below = ctx.emit(relax.op.less(x, ctx.tensor(number(-lambd, x))))
    return where(ctx, above, subtract(ctx, x, bias), where(ctx, below, add(ctx, x, bias), number(0, x)))


@converter("Clip", since=11)
def clip(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    lower, upper = [*inputs[1:], None, None][:2]
    return _clip(ctx, inputs[0], lower, upper)


@converter("Clip", since=1)
def clip_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    limits: list[Any] = [node.attr("min"), node.attr("max")]
    lower, upper = [None if limit is None else number(limit, inputs[0]) for limit in limits]
    return _clip(ctx, inputs[0], lower, upper)


def _clip(ctx: Context, x: Value | None, lower: Value | None, upper: Value | None) -> Value:
    """NaN stays; where the lower limit is above the upper one, the upper one wins."""
    assert x is not None
    for limit, bound in ((lower, maximum), (upper, minimum)):
        if limit is not None:
            x = bound(ctx, ctx.reshape(limit, []), x)
    return x
