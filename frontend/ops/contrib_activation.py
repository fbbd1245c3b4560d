"""com.microsoft's activations: Gelu, BiasGelu, FastGelu, QuickGelu.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value
from .activation import gelu_of, number
from .elementwise import add, multiply
from .precision import in_float32

DOMAIN = "com.microsoft"


@converter("Gelu", "BiasGelu", domain=DOMAIN)
def bias_gelu(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    return in_float32(ctx, _biased(ctx, inputs), lambda x: gelu_of(ctx, x, by_tanh=False))


@converter("FastGelu", domain=DOMAIN)
def fast_gelu(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    return in_float32(ctx, _biased(ctx, inputs), lambda x: gelu_of(ctx, x, by_tanh=True))


def _biased(ctx: Context, inputs: Sequence[Value | None]) -> Value:
    data, bias = [*inputs, None][:2]
    assert data is not None
    return data if bias is None else add(ctx, data, bias)


@converter("QuickGelu", domain=DOMAIN)
def quick_gelu(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """x * sigmoid(alpha * x)."""
    alpha = node.attr("alpha", 1.702)

    def function(x: relax.Expr) -> relax.Expr:
        return multiply(ctx, x, ctx.emit(relax.op.sigmoid(multiply(ctx, x, number(alpha, x)))))

    return in_float32(ctx, inputs[0], function)
