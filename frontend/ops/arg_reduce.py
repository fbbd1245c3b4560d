"""ArgMax and ArgMin. https://onnx.ai/onnx/operators/onnx__ArgMax.html

The first of equal elements wins, or the last where ``select_last_index`` says so; NaN wins over every number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, rank, tensor_shape
from .elementwise import is_nan
from .precision import widened
from .reducers import highest, lowest
from .shape import normalized_axes

_FIRST, _LAST = tirx.const(2**63 - 1, "int64"), tirx.const(-1, "int64")


def _reducer(
    better: Callable[[PrimExpr, PrimExpr], PrimExpr], worst: Callable[[str], PrimExpr], last: bool
) -> Callable[..., PrimExpr]:
    def combine(left: Sequence[PrimExpr], right: Sequence[PrimExpr]) -> list[PrimExpr]:
        (i, a), (j, b) = left, right
        a_nan, b_nan = is_nan(a), is_nan(b)
        tie = tirx.Or(tirx.EQ(a, b), tirx.And(a_nan, b_nan))
        nearer = tirx.GT(i, j) if last else tirx.LT(i, j)
        wins = tirx.Or(tirx.And(better(a, b), tirx.Not(b_nan)), tirx.And(a_nan, tirx.Not(b_nan)))
        keeps = tirx.Or(wins, tirx.And(tie, nearer))
        return [tirx.Select(keeps, i, j), tirx.Select(keeps, a, b)]

    def identity(_index_dtype: str, dtype: str) -> list[PrimExpr]:
        return [_LAST if last else _FIRST, worst(dtype)]

    return te.comm_reducer(combine, identity, name="arg_reduce")


def arg_reduce(
    ctx: Context, value: Value, axis: int, keepdims: bool = True, last: bool = False, least: bool = False
) -> relax.Expr:
    """int64 positions of the largest (or least) elements along ``axis``. Raises ConversionError for an empty axis."""
    name = "argmin" if least else "argmax"
    size = tensor_shape(value)[axis]
    if as_int(size) == 0:
        raise ConversionError(f"axis {axis} is empty: it has no {name}")
    ctx.check(size > 0)
    reducer = _reducer(tirx.LT, highest, last) if least else _reducer(tirx.GT, lowest, last)
    return ctx.te(lambda data: _arg_reduce(data, axis, keepdims, reducer, name), widened(ctx, value), name=name)


def _arg_reduce(data: te.Tensor, axis: int, keepdims: bool, reducer: Callable[..., PrimExpr], name: str) -> te.Tensor:
    k = te.reduce_axis((0, data.shape[axis]), "k")
    shape = [dim for i, dim in enumerate(data.shape) if i != axis]

    def pair(*index: tirx.Var) -> PrimExpr:
        return reducer((k.var.astype("int64"), data(*index[:axis], k, *index[axis:])), axis=k)

    found = te.compute(shape, pair, name=f"{name}_pairs")[0]
    if keepdims:
        shape.insert(axis, 1)
        return te.compute(shape, lambda *i: found(*i[:axis], *i[axis + 1 :]), name=name)
    return te.compute(shape, lambda *i: found(*i), name=name)


@converter("ArgMax", "ArgMin")
def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    (axis,) = normalized_axes([node.attr("axis", 0)], rank(inputs[0]))
    keepdims, last = bool(node.attr("keepdims", 1)), bool(node.attr("select_last_index", 0))
    return arg_reduce(ctx, inputs[0], axis, keepdims, last, least=node.op_type == "ArgMin")
