"""ReverseSequence: https://onnx.ai/onnx/operators/onnx__ReverseSequence.html."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..values import PrimExpr, Value, tensor_shape


@converter("ReverseSequence")
def reverse_sequence(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Per element of the batch, the first so many steps of time are reversed; lengths out of range are clamped."""
    data, lengths = inputs
    time, batch = node.attr("time_axis", 0), node.attr("batch_axis", 1)
    dims = tensor_shape(data)
    if len(dims) < 2 or {time, batch} != {0, 1}:
        raise ConversionError(f"time and batch must be the first two axes, found {time} and {batch} of {len(dims)}")
    same_dim(ctx, [dims[batch], tensor_shape(lengths)[0]], "the batch and the number of lengths")

    def reverse_sequence(x: te.Tensor, lengths: te.Tensor) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            length = tirx.max(tirx.min(lengths(i[batch]).astype("int64"), prim(x.shape[time])), prim(0))
            at = list(i)
            at[time] = tirx.Select(i[time] < length, length - 1 - i[time], i[time])
            return x(*at)

        return te.compute(x.shape, element, name="reverse_sequence")

    return ctx.te(reverse_sequence, ctx.tensor(data), ctx.tensor(lengths))
