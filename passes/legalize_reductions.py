"""Row-wise operators as tensor expressions that ``schedules.row_schedule`` vectorises.

Where the reduced axes aren't the innermost ones, or the type has no vector form, TVM's own legalisation serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.sym import Analyzer

from ..schedules import row_functions
from ..schedules.row_reduce import MAX, MIN, Reducer
from .constants import dtype_of, op_name, shape_of

Legalizer = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]

COMM_REDUCE, OUT_ELEMENTWISE_FUSABLE = 3, 4
"""TVM's ``OpPatternKind``: elementwise producers may be fused before a reduction; consumers behind the others."""

_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_NUMBERS = _FLOATS | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def reduction_legalizers(target_lanes: int) -> dict[str, Legalizer]:
    """For ``relax.transform.LegalizeOps``; ``target_lanes`` is the vector's width in float32 elements."""
    lanes = max(4, target_lanes)  # 64-bit elements have half as many
    kinds = ("sum", "mean", "max", "min", "prod", "variance", "std")
    return {
        "relax.nn.softmax": _legalizer(_softmax, row_functions.softmax, lanes),
        "relax.nn.log_softmax": _legalizer(_softmax, row_functions.log_softmax, lanes),
        "relax.nn.layer_norm": _legalizer(_layer_norm, lanes),
        "relax.nn.rms_norm": _legalizer(_rms_norm, lanes),
        **{f"relax.{kind}": _legalizer(_reduction, kind, lanes) for kind in kinds},
    }


def _legalizer(ours: Callable[..., relax.Expr | None], *options: Any) -> Legalizer:
    def legalize(build: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        result = ours(build, call, *options)
        return tvm.ir.Op.get(op_name(call)).get_attr("FLegalize")(build, call) if result is None else result

    return legalize


@dataclass(frozen=True)
class _Rows:
    """The operand as [*rows, K]: itself, or a view with several reduced axes made one, with a row if ``alone``."""

    data: relax.Expr
    reduced: int
    length: Any
    is_view: bool = False
    alone: bool = False


def _rows(build: relax.BlockBuilder, data: relax.Expr, axes: Any, dtypes: set[str]) -> _Rows | None:
    """None if ``axes`` (None stands for all) aren't the innermost, or there is nothing to vectorise."""
    shape = shape_of(data)
    reduced = _row_axes(shape, axes, dtype_of(data), dtypes) if shape else None
    if not shape or reduced is None:
        return None
    rank = len(shape)
    length: Any = 1
    for axis in reduced:
        length = length * shape[axis]
    length = length if isinstance(length, int) else Analyzer().simplify(length)
    if len(reduced) == 1 and rank > 1:
        return _Rows(data, 1, length)
    view = relax.op.reshape(data, [*(shape[: -len(reduced)] or [1]), length])
    return _Rows(build.emit(view), len(reduced), length, True, len(reduced) == rank)


def reads_rows(data: relax.Expr, axes: Sequence[int]) -> bool:
    """Whether a reduction over ``axes`` has a vector form: they are innermost, and there is something to reduce."""
    shape = shape_of(data)
    return shape is not None and _row_axes(shape, axes, dtype_of(data), _NUMBERS) is not None


def _row_axes(shape: Sequence[Any], axes: Any, dtype: str, dtypes: set[str]) -> list[int] | None:
    rank = len(shape)
    reduced = sorted({int(axis) % rank for axis in axes}) if axes is not None else list(range(rank))
    innermost = reduced and reduced == list(range(rank - len(reduced), rank))
    one = all(isinstance(shape[axis], int) and shape[axis] == 1 for axis in reduced)
    return reduced if innermost and dtype in dtypes and 0 not in shape and not one else None


def _call(
    build: relax.BlockBuilder,
    rows: _Rows,
    call: relax.Call,
    function: Callable[..., te.Tensor],
    pattern: int,
    *args: Any,
) -> relax.Expr:
    name = op_name(call).rpartition(".")[2]
    attrs = {"op_pattern": pattern}
    result = build.call_te(function, rows.data, *args, primfunc_name_hint=name, primfunc_attrs=attrs)
    shape = shape_of(call)
    assert shape is not None
    if rows.is_view and (pattern == OUT_ELEMENTWISE_FUSABLE or rows.alone):
        return relax.op.reshape(build.emit(result), shape)
    return result


def _softmax(
    build: relax.BlockBuilder, call: relax.Call, function: Callable[..., te.Tensor], lanes: int
) -> relax.Expr | None:
    rows = _rows(build, call.args[0], [call.attrs.axis], _FLOATS)
    return None if rows is None else _call(build, rows, call, function, OUT_ELEMENTWISE_FUSABLE, lanes)


def _layer_norm(build: relax.BlockBuilder, call: relax.Call, lanes: int) -> relax.Expr | None:
    data, scale, shift = call.args
    if not (call.attrs.center and call.attrs.scale):
        return None
    rows = _rows(build, data, call.attrs.axes, _FLOATS)
    if rows is None:
        return None
    parameters = [_flat(build, parameter, rows) for parameter in (scale, shift)]
    epsilon = float(call.attrs.epsilon)
    return _call(build, rows, call, row_functions.layer_norm, OUT_ELEMENTWISE_FUSABLE, *parameters, epsilon, lanes)


def _rms_norm(build: relax.BlockBuilder, call: relax.Call, lanes: int) -> relax.Expr | None:
    data, scale = call.args
    rows = _rows(build, data, call.attrs.axes, _FLOATS)
    if rows is None:
        return None
    epsilon = float(call.attrs.epsilon)
    flat = _flat(build, scale, rows)
    return _call(build, rows, call, row_functions.rms_norm, OUT_ELEMENTWISE_FUSABLE, flat, epsilon, lanes)


def _flat(build: relax.BlockBuilder, parameter: relax.Expr, rows: _Rows) -> relax.Expr:
    return parameter if rows.reduced == 1 else build.emit(relax.op.reshape(parameter, [rows.length]))


def _reduction(build: relax.BlockBuilder, call: relax.Call, kind: str, lanes: int) -> relax.Expr | None:
    dtypes = _FLOATS if kind in ("mean", "variance", "std") else _NUMBERS
    rows = _rows(build, call.args[0], call.attrs.axis, dtypes)
    if rows is None:
        return _outer_extreme(build, call, _EXTREMES[kind]) if kind in _EXTREMES else None
    kept = rows.reduced if call.attrs.keepdims and not rows.alone else 0
    return _call(build, rows, call, row_functions.reduction, COMM_REDUCE, kind, kept, lanes)


_EXTREMES = {"max": MAX, "min": MIN}


def _outer_extreme(build: relax.BlockBuilder, call: relax.Call, reducer: Reducer) -> relax.Expr | None:
    """Over axes that are not the innermost: TVM's own would begin at the least finite number."""
    shape = shape_of(call.args[0])
    if shape is None or dtype_of(call) not in _NUMBERS:
        return None
    rank = len(shape)
    axes = list(range(rank)) if call.attrs.axis is None else sorted(int(axis) % rank for axis in call.attrs.axis)

    def extreme(x: te.Tensor) -> te.Tensor:
        folded = {axis: te.reduce_axis((0, x.shape[axis]), f"k{axis}") for axis in axes}
        kept = [axis for axis in range(rank) if call.attrs.keepdims or axis not in folded]

        def element(*index: tirx.Var) -> Any:
            at = dict(zip(kept, index, strict=True))
            places = [folded[axis].var if axis in folded else at[axis] for axis in range(rank)]
            return reducer.over(x(*places), list(folded.values()))

        return te.compute([1 if a in folded else x.shape[a] for a in kept], element, name=reducer.name)

    name = op_name(call).rpartition(".")[2]
    attrs = {"op_pattern": COMM_REDUCE}
    return build.call_te(extreme, call.args[0], primfunc_name_hint=name, primfunc_attrs=attrs)
