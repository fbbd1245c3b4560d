"""ai.onnx.preview.training's optimizers: Adagrad, Adam and Momentum, one step for any number of tensors.

https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html and siblings. Inputs are the learning rate, the
count of updates, then all tensors, all gradients, and all states of each kind; outputs come in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, tensor_dtype
from .activation import number
from .elementwise import add, divide, multiply, subtract
from .logical import where
from .precision import cast_to

DOMAIN = "ai.onnx.preview.training"

Step = Callable[..., list[relax.Expr]]
"""Takes context, node, rate, count, tensor, gradient and states; gives the new tensor and states."""


def _optimizer(op_type: str, states: int) -> Callable[[Step], Step]:
    def register(step: Step) -> Step:
        def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
            rate, count, *rest = inputs
            kinds = states + 2
            if not rest or len(rest) % kinds:
                raise ConversionError(f"{len(rest)} tensors are no multiple of {kinds}: tensors, gradients and states")
            each = len(rest) // kinds
            scalars = [ctx.reshape(value, []) for value in (rate, count)]
            made = [step(ctx, node, *scalars, *rest[i::each]) for i in range(each)]
            return [results[kind] for kind in range(kinds - 1) for results in made]

        converter(op_type, domain=DOMAIN)(convert)
        return step

    return register


def _regularized(ctx: Context, node: Node, x: Value, gradient: Value) -> Value:
    norm = node.attr("norm_coefficient", 0.0)
    return add(ctx, multiply(ctx, x, number(norm, x)), gradient) if norm else gradient


def _scaled(ctx: Context, value: Value, factor: float) -> Value:
    return multiply(ctx, value, number(factor, value))


@_optimizer("Adagrad", 1)
def adagrad(ctx: Context, node: Node, rate: Value, count: Value, x: Value, gradient: Value, total: Value) -> list[Any]:
    dtype = tensor_dtype(x)
    passed = cast_to(ctx, ctx.tensor(count), dtype)
    decay = add(ctx, _scaled(ctx, passed, node.attr("decay_factor", 0.0)), number(1, x))
    change = _regularized(ctx, node, x, gradient)
    squares = add(ctx, total, multiply(ctx, change, change))
    root = add(ctx, ctx.emit(relax.op.sqrt(squares)), number(node.attr("epsilon", 1e-6), x))
    step = divide(ctx, multiply(ctx, divide(ctx, cast_to(ctx, ctx.tensor(rate), dtype), decay), change), root)
    return [subtract(ctx, x, step), squares]


@_optimizer("Adam", 2)
def adam(
    ctx: Context, node: Node, rate: Value, count: Value, x: Value, gradient: Value, first: Value, second: Value
) -> list[Any]:
    dtype, alpha, beta = tensor_dtype(x), node.attr("alpha", 0.9), node.attr("beta", 0.999)
    change = _regularized(ctx, node, x, gradient)
    moment = add(ctx, _scaled(ctx, first, alpha), _scaled(ctx, change, 1 - alpha))
    squares = add(ctx, _scaled(ctx, second, beta), _scaled(ctx, multiply(ctx, change, change), 1 - beta))
    root = add(ctx, ctx.emit(relax.op.sqrt(squares)), number(node.attr("epsilon", 1e-6), x))
    step = cast_to(ctx, _corrected_rate(ctx, rate, count, alpha, beta), dtype)
    result = subtract(ctx, x, multiply(ctx, step, divide(ctx, moment, root)))
    return [_scaled(ctx, result, 1 - node.attr("norm_coefficient_post", 0.0)), moment, squares]


def _corrected_rate(ctx: Context, rate: Value, count: Value, alpha: float, beta: float) -> relax.Expr:
    """The rate, corrected for states that began at 0; in float64, as powers near 1 cancel. Not at the count 0."""
    passed, plain = (cast_to(ctx, ctx.tensor(value), "float64") for value in (count, rate))
    one = number(1, passed)

    def missing(base: float) -> relax.Expr:
        return subtract(ctx, one, ctx.emit(relax.op.power(ctx.tensor(number(base, passed)), passed)))

    corrected = divide(ctx, multiply(ctx, plain, ctx.emit(relax.op.sqrt(missing(beta)))), missing(alpha))
    return where(ctx, ctx.emit(relax.op.greater(passed, ctx.tensor(number(0, passed)))), corrected, plain)


@_optimizer("Momentum", 1)
def momentum(ctx: Context, node: Node, rate: Value, count: Value, x: Value, gradient: Value, past: Value) -> list[Any]:
    mode, alpha = node.attr("mode"), node.attr("alpha")
    if mode not in ("standard", "nesterov"):
        raise ConversionError(f"mode {mode!r} is neither 'standard' nor 'nesterov'")
    passed = cast_to(ctx, ctx.tensor(count), tensor_dtype(x))
    change = _regularized(ctx, node, x, gradient)
    started = ctx.emit(relax.op.greater(passed, ctx.tensor(number(0, x))))
    weight = where(ctx, started, number(node.attr("beta"), x), number(1, x))
    moment = add(ctx, _scaled(ctx, past, alpha), multiply(ctx, weight, change))
    direction = moment if mode == "standard" else add(ctx, change, _scaled(ctx, moment, alpha))
    step = multiply(ctx, cast_to(ctx, ctx.tensor(rate), tensor_dtype(x)), direction)
    return [subtract(ctx, x, step), moment]
