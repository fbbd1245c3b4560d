"""CumSum and CumProd. https://onnx.ai/onnx/operators/onnx__CumSum.html"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, as_int, rank, tensor_shape
from .precision import in_float32
from .shape import normalized_axes


@converter("CumSum", "CumProd")
def cumulative(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    (axis,) = normalized_axes([int(ctx.require_constant(inputs[1], "axis").reshape(-1)[0])], rank(inputs[0]))
    if any(as_int(dim) == 0 for dim in tensor_shape(inputs[0])):
        return inputs[0]
    operation = relax.op.cumsum if node.op_type == "CumSum" else relax.op.cumprod
    reverse, exclusive = bool(node.attr("reverse", 0)), bool(node.attr("exclusive", 0))

    def scan(x: relax.Expr) -> relax.Expr:
        x = ctx.emit(relax.op.flip(x, axis)) if reverse else x
        scanned = ctx.emit(operation(x, axis, exclusive=exclusive))
        return ctx.emit(relax.op.flip(scanned, axis)) if reverse else scanned

    return in_float32(ctx, inputs[0], scan)
