"""Slice: https://onnx.ai/onnx/operators/onnx__Slice.html.

Starts, ends and steps may be constants, expressions over dims, or tensors that are read when the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import INT32_MAX, floordiv, known, maximum, minimum, prim, select
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape
from ..values import PrimExpr, Value, as_int, tensor_shape
from .shape import normalized_axes

HUGE = 10**9
"""Exporters' other word for "to the end". A dim of ``min(HUGE, n)`` would have memory planned for that bound."""


@dataclass(frozen=True)
class Cut:
    """One axis of a slice: ``length`` elements from ``start`` on, ``step`` apart; all are inside the dim."""

    start: PrimExpr
    length: PrimExpr
    step: PrimExpr


@converter("Slice", since=10)
def slice_10(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    data, starts, ends = inputs[:3]
    assert data is not None and starts is not None and ends is not None
    axes = inputs[3] if len(inputs) > 3 else None
    steps = inputs[4] if len(inputs) > 4 else None
    if axes is not None and not isinstance(axes, np.ndarray):
        count = len(tensor_shape(data))
        starts, ends = (spread(ctx, axes, bounds, count, rest) for bounds, rest in ((starts, 0), (ends, INT32_MAX)))
        axes, steps = None, None if steps is None else spread(ctx, axes, steps, count, 1)
    begin, end = ctx.ints(starts, "starts"), ctx.ints(ends, "ends")
    places = list(range(len(begin))) if axes is None else [int(axis) for axis in axes.reshape(-1)]
    return _slice(ctx, data, begin, end, places, [1] * len(begin) if steps is None else ctx.ints(steps, "steps"))


def spread(ctx: Context, axes: Value, values: Value, count: int, rest: int) -> relax.Expr:
    """A vector with one of ``values`` for each of ``count`` axes, ``rest`` for those that ``axes`` don't name.

    For axes that are known only when the model runs.
    """

    def spread(axes: te.Tensor, values: te.Tensor) -> te.Tensor:
        def element(axis: tirx.Var) -> PrimExpr:
            result = prim(rest)
            for j in range(int(axes.shape[0])):
                named = axes(prim(j)).astype("int64")
                chosen = tirx.Or(named == axis, named == axis - count)
                result = tirx.Select(chosen, values(prim(j)).astype("int64"), result)
            return result

        return te.compute((prim(count),), element, name="spread")

    if not known(*tensor_shape(axes), *tensor_shape(values)) or tensor_shape(axes) != tensor_shape(values):
        shapes = f"{list(tensor_shape(axes))} and {list(tensor_shape(values))}"
        raise ConversionError(f"axes and what belongs to them must be vectors of one known length, found {shapes}")
    return ctx.te(spread, ctx.tensor(axes), ctx.tensor(values))


@converter("Slice", since=1)
def slice_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    begin, end = node.attr("starts"), node.attr("ends")
    return _slice(ctx, inputs[0], begin, end, node.attr("axes", list(range(len(begin)))), [1] * len(begin))


def _slice(
    ctx: Context,
    data: Value,
    starts: Sequence[PrimExpr],
    ends: Sequence[PrimExpr],
    axes: Sequence[int],
    steps: Sequence[PrimExpr],
) -> Value:
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ConversionError(
            f"starts, ends, axes and steps differ in length: {len(starts)}, {len(ends)}, {len(axes)}, {len(steps)}"
        )
    dims = tensor_shape(data)
    places = normalized_axes(axes, len(dims))
    if len(set(places)) != len(places):
        raise ConversionError(f"an axis is given twice in {list(axes)}")
    cuts = {}
    for axis, start, end, step in zip(places, starts, ends, steps, strict=True):
        cuts[axis] = resolve(ctx, dims[axis], start, end, step)
    return take_cuts(ctx, data, cuts)


def resolve(ctx: Context, size: PrimExpr, start: PrimExpr, end: PrimExpr, step: PrimExpr) -> Cut:
    """Starts and ends as ONNX defines them: negative ones count from the end, then they are clamped to the dim."""
    if as_int(step) == 0:
        raise ConversionError("a slice's step can't be 0")
    forward = step > 0 if known(step) else _decide(ctx, step > 0)
    if not isinstance(forward, bool):
        ctx.check(step != 0)
    begin = minimum(maximum(_from_front(ctx, start, size), 0), select(forward, size, size - 1))
    last = _from_front(ctx, end, size)
    stop = maximum(minimum(last, select(forward, size, size - 1)), select(forward, 0, -1))
    begin, stop = ctx.simplify(begin), ctx.simplify(stop)
    distance = ctx.simplify(maximum(select(forward, stop - begin, begin - stop), 0))
    length = ctx.simplify(_count(distance, step))
    # Of an unknown direction the length is a choice of choices: passes would have to see that two of them are one.
    return Cut(begin, length if known(step) else ctx.compact(length), step)


def _count(distance: PrimExpr, step: PrimExpr) -> PrimExpr:
    """How many steps start within ``distance``; the numerator is never negative, the divisor never 0."""
    if known(step):
        return floordiv(distance + (abs(int(step)) - 1), abs(int(step)))
    stride = maximum(maximum(step, -step), 1)
    return tirx.truncdiv(prim(distance) + (stride - 1), stride)


def _from_front(ctx: Context, position: PrimExpr, size: PrimExpr) -> PrimExpr:
    if known(position):
        if position >= INT32_MAX:
            return size
        if position >= HUGE:
            ctx.check(prim(size) <= position)
            return size
        if position < -INT32_MAX:
            return -1
        return position if position >= 0 else size + position
    # Sums with huge ends that are read at run time must not overflow.
    bounded = position if ctx.prove(position >= -INT32_MAX) else maximum(position, -INT32_MAX - 1)
    return select(_decide(ctx, position < 0), bounded + size, position)


def _decide(ctx: Context, condition: PrimExpr) -> PrimExpr:
    """True or False where that can be proved, else the condition."""
    if isinstance(condition, bool):
        return condition
    simple = ctx.analyzer.simplify(condition)
    value = as_int(simple)
    return condition if value is None else bool(value)


def take_cuts(ctx: Context, data: Value, cuts: dict[int, Cut]) -> Value:
    """The part of ``data`` that ``cuts`` leave on their axes; the other axes stay whole."""
    dims = tensor_shape(data)
    cuts = {axis: cut for axis, cut in cuts.items() if not _is_whole(ctx, dims[axis], cut)}
    if not cuts:
        return data
    tensor = ctx.tensor(data)
    shape = [cuts[axis].length if axis in cuts else dim for axis, dim in enumerate(dims)]
    strided = _strided(ctx, tensor, cuts, shape)
    if strided is not None:
        return strided
    starts = [cuts[axis].start if axis in cuts else 0 for axis in range(len(dims))]
    steps = [cuts[axis].step if axis in cuts else 1 for axis in range(len(dims))]

    def strided_slice(x: te.Tensor, shape: list, starts: list, steps: list) -> te.Tensor:
        return te.compute(
            prim_list(shape),
            lambda *i: x(*(_at(s, p, k) for s, p, k in zip(starts, i, steps, strict=True))),
            name="strided_slice",
        )

    return ctx.te(strided_slice, tensor, shape, starts, steps)


def _at(start: PrimExpr, position: PrimExpr, step: PrimExpr) -> PrimExpr:
    scaled = position if as_int(step) == 1 else position * prim(step)
    return scaled if as_int(start) == 0 else scaled + prim(start)


def _is_whole(ctx: Context, size: PrimExpr, cut: Cut) -> bool:
    return as_int(cut.step) == 1 and as_int(cut.start) == 0 and ctx.equal(cut.length, size)


def _strided(ctx: Context, tensor: relax.Expr, cuts: dict[int, Cut], shape: list[PrimExpr]) -> relax.Expr | None:
    """Relax's own operator, which layout passes know, where its shape is the right one."""
    if not all(known(cut.start, cut.step, cut.length) and cut.step > 0 for cut in cuts.values()):
        return None
    axes = sorted(cuts)
    begin = [int(cuts[axis].start) for axis in axes]
    end = [int(cuts[axis].start + (cuts[axis].length - 1) * cuts[axis].step + 1) for axis in axes]
    if not all(cuts[axis].length for axis in axes):
        return None
    sliced = relax.op.strided_slice(tensor, axes, begin, end, [int(cuts[axis].step) for axis in axes])
    return emit_if_shape(ctx, sliced, shape)
