"""What ai.onnx.ml's linear and tree models do with their scores last: the attribute ``post_transform``."""

from __future__ import annotations

import math

from tvm import relax

from ...errors import ConversionError
from ..context import Context
from .activation import number
from .elementwise import add, divide, multiply, subtract
from .logical import where
from .reduce import largest, total

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""In the order of TreeEnsemble's numbers for them."""


def post_transform(ctx: Context, scores: relax.Expr, name: str) -> relax.Expr:
    """Scores [N, classes] transformed, SOFTMAX along the classes."""
    if name == "NONE":
        return scores
    if name == "LOGISTIC":
        return ctx.emit(relax.op.sigmoid(scores))
    if name == "SOFTMAX":
        return ctx.emit(relax.op.nn.softmax(scores, -1))
    if name == "SOFTMAX_ZERO":
        return _softmax_zero(ctx, scores)
    if name == "PROBIT":
        return _probit(ctx, scores)
    raise ConversionError(f"post_transform {name!r} is none of {', '.join(TRANSFORMS)}")


def _softmax_zero(ctx: Context, x: relax.Expr) -> relax.Expr:
    """A softmax in which scores of 0 stay 0."""
    peak = largest(ctx, x, [1], True)
    is_zero = ctx.emit(relax.op.less_equal(ctx.emit(relax.op.abs(x)), ctx.tensor(number(1e-7, x))))
    powers = where(ctx, is_zero, number(0, x), ctx.emit(relax.op.exp(subtract(ctx, x, peak))))
    whole = total(ctx, powers, [1], True)
    nothing = ctx.emit(relax.op.equal(whole, ctx.tensor(number(0, x))))
    return where(ctx, nothing, number(0.5, x), divide(ctx, powers, where(ctx, nothing, number(1, x), whole)))


def _probit(ctx: Context, x: relax.Expr) -> relax.Expr:
    """sqrt(2) * erf's inverse of 2x - 1, by Winitzki's approximation, as ONNX Runtime has it."""
    centred = subtract(ctx, multiply(ctx, x, number(2, x)), number(1, x))
    product = multiply(ctx, subtract(ctx, number(1, x), centred), add(ctx, centred, number(1, x)))
    log = ctx.emit(relax.op.log(product))
    half = add(ctx, multiply(ctx, log, number(0.5, x)), number(2 / (math.pi * 0.147), x))
    square = subtract(ctx, multiply(ctx, half, half), multiply(ctx, log, number(1 / 0.147, x)))
    root = ctx.emit(relax.op.sqrt(subtract(ctx, ctx.emit(relax.op.sqrt(square)), half)))
    size = multiply(ctx, root, number(math.sqrt(2), x))
    below = ctx.emit(relax.op.less(centred, ctx.tensor(number(0, x))))
    signed = where(ctx, below, subtract(ctx, number(0, x), size), size)
    outermost = ctx.emit(relax.op.equal(product, ctx.tensor(number(0, x))))
    return where(ctx, outermost, number(0, x), signed)
