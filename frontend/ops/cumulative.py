"""CumSum and CumProd. https://onnx.ai/onnx/operators/onnx__CumSum.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax, tirx

from ..arith import prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, as_int, symbolic, tensor_shape
from .logical import where
from .precision import cast_to, in_float32
from .shape import normalized_axes


@converter("CumSum", "CumProd")
def cumulative(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, axis = inputs
    dims = tensor_shape(data)
    if any(as_int(dim) == 0 for dim in dims):
        return data
    scan = _scan(ctx, node)
    known = ctx.constant(axis)
    if known is not None:
        (place,) = normalized_axes([int(known.reshape(-1)[0])], len(dims))
        return in_float32(ctx, data, lambda x: scan(x, place))
    return in_float32(ctx, data, lambda x: _chosen(ctx, [scan(x, place) for place in range(len(dims))], axis))


def _scan(ctx: Context, node: Node) -> Callable[[relax.Expr, int], relax.Expr]:
    operation = relax.op.cumsum if node.op_type == "CumSum" else relax.op.cumprod
    reverse, exclusive = bool(node.attr("reverse", 0)), bool(node.attr("exclusive", 0))

    def scan(x: relax.Expr, axis: int) -> relax.Expr:
        x = ctx.emit(relax.op.flip(x, axis)) if reverse else x
        scanned = ctx.emit(operation(x, axis, exclusive=exclusive))
        return ctx.emit(relax.op.flip(scanned, axis)) if reverse else scanned

    return scan


def _chosen(ctx: Context, candidates: Sequence[relax.Expr], axis: Value) -> relax.Expr:
    """The candidate for an axis that is known only at run time; the run fails if there is no such axis."""
    (place,) = ctx.ints(axis, "axis")
    count = len(candidates)
    ctx.check(tirx.all(place >= -count, place < count))
    result = candidates[-1]
    for index in range(count - 1):
        here = symbolic(tirx.Select(tirx.Or(place == index, place == index - count), prim(1), prim(0)))
        chosen = cast_to(ctx, ctx.tensor(here), "bool")
        result = where(ctx, chosen, candidates[index], result)
    return result
