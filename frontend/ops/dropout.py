"""Dropout as inference sees it: the input itself, and a mask that keeps everything.

https://onnx.ai/onnx/operators/onnx__Dropout.html
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from ...errors import ConversionError
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..values import Value, tensor_dtype, tensor_shape


@converter("Dropout")
def dropout(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    data = inputs[0]
    assert data is not None
    training = inputs[2] if len(inputs) > 2 else None
    if training is not None and bool(ctx.require_constant(training, "training_mode")):
        raise ConversionError(
            "Dropout in training mode is random and not supported", hint="export the model for inference"
        )
    if not node.has_output(1):
        return [data]
    dtype = "bool" if node.opset >= 10 else tensor_dtype(data)
    return [data, ctx.emit(relax.op.ones(relax.ShapeExpr(prim_list(tensor_shape(data))), dtype))]
