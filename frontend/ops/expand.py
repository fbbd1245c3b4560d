"""Expand: broadcasting to a shape that may be computed at run time. https://onnx.ai/onnx/operators/onnx__Expand.html"""

from __future__ import annotations

from collections.abc import Sequence

from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, tensor_shape
from .broadcasting import broadcast, broadcast_to


@converter("Expand", since=8)
def expand(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    target = ctx.ints(inputs[1], "the shape to expand to")
    plan = broadcast(ctx, [tensor_shape(inputs[0]), target])
    return broadcast_to(ctx, inputs[0], plan.shape)
