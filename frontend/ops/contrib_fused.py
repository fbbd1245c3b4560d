"""com.microsoft's operators with something fused on: FusedMatMul, FusedGemm, FusedConv.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, rank
from .activation import number
from .conv import conv
from .elementwise import add, maximum, minimum, multiply
from .logical import where
from .matmul import gemm, matmul

DOMAIN = "com.microsoft"


@converter("FusedMatMul", domain=DOMAIN)
def fused_matmul(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """alpha * A' x B', where either may have its last two dims exchanged, or its first one moved before the last."""
    left, right = inputs
    left = _turned(ctx, left, node.attr("transA", 0), node.attr("transBatchA", 0))
    right = _turned(ctx, right, node.attr("transB", 0), node.attr("transBatchB", 0))
    alpha = node.attr("alpha", 1.0)
    product = matmul(ctx, left, right)
    return product if alpha == 1.0 else multiply(ctx, product, number(alpha, product))


def _turned(ctx: Context, value: Value, matrix: int, batch: int) -> Value:
    """A batch dim that moves: [M, B, ..., K] is B x ... matrices of M x K."""
    order = list(range(rank(value)))
    if len(order) < 2:
        return value  # a vector has nothing to exchange
    if batch:
        order = [*order[1:-1], order[0], order[-1]]
    if matrix:
        order[-2:] = order[:-3:-1]
    if order == sorted(order):
        return value
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value.transpose(order))
    return ctx.emit(relax.op.permute_dims(ctx.tensor(value), order))


@converter("FusedGemm", domain=DOMAIN)
def fused_gemm(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    parameters = [node.attr(f"activation_{name}", 0.0) for name in ("alpha", "beta")]
    return _activated(ctx, node, gemm(ctx, node, inputs), parameters)


@converter("FusedConv", domain=DOMAIN)
def fused_conv(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """activation(conv(X, W) + B + Z)."""
    result = conv(ctx, node, inputs[:3])
    if len(inputs) > 3 and inputs[3] is not None:
        result = add(ctx, result, inputs[3])
    return _activated(ctx, node, result, node.attr("activation_params", []))


def _activated(ctx: Context, node: Node, x: Any, parameters: Sequence[float]) -> Value:
    name = node.attr("activation", "")
    if not name:
        return x
    functions: dict[str, Callable[..., Value]] = {
        "Relu": lambda: maximum(ctx, number(0, x), x),
        "Sigmoid": lambda: ctx.emit(relax.op.sigmoid(x)),
        "Tanh": lambda: ctx.emit(relax.op.tanh(x)),
        "LeakyRelu": lambda alpha, *_: where(
            ctx, ctx.emit(relax.op.less(x, ctx.tensor(number(0, x)))), multiply(ctx, x, number(alpha, x)), x
        ),
        "Clip": lambda low, high: minimum(ctx, number(high, x), maximum(ctx, number(low, x), x)),
        "HardSigmoid": lambda alpha, beta: minimum(
            ctx,
            number(1, x),
            maximum(ctx, number(0, x), add(ctx, multiply(ctx, x, number(alpha, x)), number(beta, x))),
        ),
    }
    if name not in functions:
        raise ConversionError(f"the fused activation {name!r} is not supported; {', '.join(functions)} are")
    return functions[name](*([] if name in ("Relu", "Sigmoid", "Tanh") else parameters))
