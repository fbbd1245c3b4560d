"""Dropout as inference sees it: the input itself, and a mask that keeps everything.

Training that drops something is random: no two runtimes agree, and none is asked for what it would give.

https://onnx.ai/onnx/operators/onnx__Dropout.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

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
    if training is not None:
        _refuse_dropping(ctx, inputs[1], training)
    if not node.has_output(1):
        return [data]
    dtype = "bool" if node.opset >= 10 else tensor_dtype(data)
    return [data, ctx.emit(relax.op.ones(relax.ShapeExpr(prim_list(tensor_shape(data))), dtype))]


def _refuse_dropping(ctx: Context, ratio: Value | None, training: Value) -> None:
    """Training mode with a ratio above 0 (the default is a half) ends the compilation, or the run that asks for it."""
    share = np.array(0.5, np.float32) if ratio is None else ratio
    if isinstance(share, np.ndarray) and isinstance(training, np.ndarray):
        if bool(training) and np.any(share):
            raise ConversionError(
                "Dropout in training mode is random and not supported", hint="export the model for inference"
            )
        return

    def drops(training: te.Tensor, ratio: te.Tensor) -> te.Tensor:
        def element(_: tirx.Var) -> tirx.PrimExpr:
            share, on = (tensor(*[0] * len(tensor.shape)) for tensor in (ratio, training))
            both = tirx.all(on, share.astype("float32") != tirx.const(0, "float32"))
            return tirx.Select(both, tirx.const(1, "int64"), tirx.const(0, "int64"))

        return te.compute((tirx.const(1, "int64"),), element, name="drops")

    (dropped,) = ctx.ints(ctx.te(drops, ctx.tensor(training), ctx.tensor(share)), "training_mode")
    ctx.check(dropped == 0)
