"""ArgMax and ArgMin. https://onnx.ai/onnx/operators/onnx__ArgMax.html

The first of equal elements wins, or the last where ``select_last_index`` says so; NaN wins over every number.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, rank, tensor_shape
from .elementwise import is_nan
from .precision import widened
from .reducers import reduce_max, reduce_min
from .shape import normalized_axes


def arg_reduce(
    ctx: Context,
    value: Value,
    axis: int,
    keepdims: bool = True,
    last: bool = False,
    least: bool = False,
    may_be_empty: bool = False,
) -> relax.Expr:
    """int64 positions of the largest (or least) elements along ``axis``.

    Raises ConversionError for an empty axis, and the model refuses one when it runs; ``may_be_empty`` leaves that out,
    for positions that nothing is then done with.

    The extreme first, then the first place that holds it: a reduction of (place, value) pairs vectorises wrongly, as
    the new place is stored before the value that it was chosen by is compared.
    """
    name = "argmin" if least else "argmax"
    size = tensor_shape(value)[axis]
    if as_int(size) == 0 and not may_be_empty:
        raise ConversionError(f"axis {axis} is empty: it has no {name}")
    if not may_be_empty:
        ctx.check(size > 0)
    reducer = reduce_min if least else reduce_max
    data = widened(ctx, value)

    def extreme(x: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, x.shape[axis]), "k")
        return te.compute(_without(x, axis), lambda *i: reducer(x(*i[:axis], k, *i[axis:]), axis=k), name=name)

    def places(x: te.Tensor, best: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, x.shape[axis]), "k")
        nearest, nowhere = (te.max, tirx.min_value("int64")) if last else (te.min, tirx.max_value("int64"))

        def place(*i: tirx.Var) -> PrimExpr:
            element, wanted = x(*i[:axis], k, *i[axis:]), best(*i)
            found = tirx.Or(tirx.EQ(element, wanted), tirx.And(is_nan(element), is_nan(wanted)))
            return nearest(tirx.Select(found, k.var.astype("int64"), nowhere), axis=k)

        return te.compute(_without(x, axis), place, name=f"{name}_places")

    found = ctx.te(places, data, ctx.te(extreme, data, name=name), name=f"{name}_places")
    if not keepdims:
        return found
    shape = list(tensor_shape(value))
    shape[axis] = 1
    return ctx.tensor(ctx.reshape(found, shape))


def _without(data: te.Tensor, axis: int) -> list[PrimExpr]:
    return [dim for i, dim in enumerate(data.shape) if i != axis]


@converter("ArgMax", "ArgMin")
def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    (axis,) = normalized_axes([node.attr("axis", 0)], rank(inputs[0]))
    keepdims, last = bool(node.attr("keepdims", 1)), bool(node.attr("select_last_index", 0))
    return arg_reduce(ctx, inputs[0], axis, keepdims, last, least=node.op_type == "ArgMin")
