"""TopK: https://onnx.ai/onnx/operators/onnx__TopK.html."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from tvm import relax, te

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..sorting import INSERTED, best_few, best_sorted
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .shape import normalized_axes


@converter("TopK", since=10)
def topk_10(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    return _topk(ctx, node, inputs[0], ctx.ints(inputs[1], "k")[0])


@converter("TopK", since=1)
def topk_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    return _topk(ctx, node, inputs[0], node.attr("k"))


def _topk(ctx: Context, node: Node, data: Value, k: PrimExpr) -> list[Value]:
    dims = tensor_shape(data)
    (axis,) = normalized_axes([node.attr("axis", -1)], len(dims))
    if known(k, dims[axis]) and not 0 <= int(k) <= int(dims[axis]):
        raise ConversionError(f"k is {k}, axis {axis} has {dims[axis]} elements")
    if not known(k):
        ctx.check(prim(k) >= 0)
    ctx.check(prim(k) <= prim(dims[axis]))
    shape = [*dims[:axis], k, *dims[axis + 1 :]]
    if never_has_elements(shape):
        return [zeros(ctx, shape, tensor_dtype(data)), zeros(ctx, shape, "int64")]
    better = operator.gt if node.attr("largest", 1) else operator.lt
    few = known(k) and int(k) <= INSERTED

    def topk(x: te.Tensor, k: PrimExpr) -> list[te.Tensor]:
        return (best_few if few else best_sorted)(x, axis, k, better)

    both = ctx.te(topk, ctx.tensor(data), k)
    return [ctx.emit(relax.TupleGetItem(both, i)) for i in range(2)]
