"""Pad: https://onnx.ai/onnx/operators/onnx__Pad.html. Pads may be negative (then elements go) or known at run time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import floormod, known, maximum, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape
from ..values import PrimExpr, SymbolicInts, Value, as_int, tensor_dtype, tensor_shape
from .shape import normalized_axes
from .slice import Cut, spread, take_cuts

MODES = ("constant", "reflect", "edge", "wrap")


@dataclass(frozen=True)
class Border:
    """What is added before and after one axis, in elements."""

    before: PrimExpr
    after: PrimExpr


@converter("Pad", since=11)
def pad_11(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, pads, fill, axes = [*inputs, None, None][:4]
    assert data is not None and pads is not None
    count = len(tensor_shape(data))
    if axes is not None and not isinstance(axes, np.ndarray):
        pairs = ctx.reshape(pads, [2, *tensor_shape(axes)])
        sides = [take_cuts(ctx, pairs, {0: Cut(i, 1, 1)}) for i in range(2)]
        rows = [ctx.reshape(side, tensor_shape(axes)) for side in sides]
        sizes = [size for row in rows for size in ctx.ints(spread(ctx, axes, row, count, 0), "pads")]
        return _pad(ctx, node, data, sizes, list(range(count)), fill)
    places = list(range(count)) if axes is None else normalized_axes([int(axis) for axis in axes.reshape(-1)], count)
    return _pad(ctx, node, data, ctx.ints(pads, "pads"), places, fill)


@converter("Pad", since=1)
def pad_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    pads = node.attr("pads", node.attr("paddings"))
    fill = np.array(node.attr("value", 0.0), tensor_dtype(inputs[0]))
    return _pad(ctx, node, inputs[0], pads, list(range(len(tensor_shape(inputs[0])))), fill)


def _pad(
    ctx: Context, node: Node, data: Value, pads: Sequence[PrimExpr], axes: Sequence[int], fill: Value | None
) -> Value:
    mode = node.attr("mode", "constant")
    if mode not in MODES:
        raise ConversionError(f"mode {mode!r} is none of {', '.join(MODES)}")
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ConversionError(f"{len(pads)} pads for the {len(axes)} axes {list(axes)}")
    borders = {a: Border(pads[i], pads[i + len(axes)]) for i, a in enumerate(axes)}
    data, borders = _cut(ctx, data, borders)
    return pad(ctx, data, borders, mode, fill)


def _cut(ctx: Context, data: Value, borders: dict[int, Border]) -> tuple[Value, dict[int, Border]]:
    """Negative pads take elements away, before anything is added."""
    dims, cuts, rest = tensor_shape(data), {}, {}
    for axis, border in borders.items():
        lost = [ctx.simplify(maximum(-side, 0)) for side in (border.before, border.after)]
        left = ctx.simplify(dims[axis] - lost[0] - lost[1])
        if as_int(left) is not None and int(left) < 0:
            raise ConversionError(
                f"pads {border.before} and {border.after} cut more than the {dims[axis]} of axis {axis}"
            )
        if not known(left):
            ctx.check(left >= 0)
        cuts[axis] = Cut(lost[0], left, 1)
        rest[axis] = Border(ctx.simplify(maximum(border.before, 0)), ctx.simplify(maximum(border.after, 0)))
    return take_cuts(ctx, data, cuts), rest


def pad(
    ctx: Context, data: Value, borders: dict[int, Border], mode: str = "constant", fill: Value | None = None
) -> Value:
    """Add non-negative ``borders``; ``fill`` is a tensor of one element, 0 where None."""
    dims = tensor_shape(data)
    borders = {a: b for a, b in borders.items() if not (as_int(b.before) == 0 and as_int(b.after) == 0)}
    if not borders:
        return data
    shape = list(dims)
    for axis, border in borders.items():
        shape[axis] = ctx.simplify(dims[axis] + border.before + border.after)
    if mode != "constant":
        return _pad_by_moving(ctx, data, borders, shape, mode)
    return _pad_constant(ctx, data, borders, shape, fill)


def _pad_constant(
    ctx: Context, data: Value, borders: dict[int, Border], shape: list[PrimExpr], fill: Value | None
) -> Value:
    dtype, tensor = tensor_dtype(data), ctx.tensor(data)
    constant = np.zeros(1, dtype) if fill is None else ctx.constant(fill)
    sides = [side for axis in range(len(shape)) for side in _sides(borders, axis)]
    if constant is not None and dtype == "float32" and known(*sides):
        # Relax's own operator, which layout passes know.
        padded = relax.op.nn.pad(tensor, [int(side) for side in sides], "constant", float(constant.reshape(-1)[0]))
        emitted = emit_if_shape(ctx, padded, shape)
        if emitted is not None:
            return emitted
    value = ctx.reshape(constant if constant is not None else _as_tensor(fill), [1])

    def pad_constant(x: te.Tensor, value: te.Tensor, shape: list, before: list) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            at = [p - prim(b) if axis in borders else p for axis, (p, b) in enumerate(zip(i, before, strict=True))]
            inside = [c for axis in borders for c in (i[axis] >= prim(before[axis]), at[axis] < prim(x.shape[axis]))]
            return tirx.if_then_else(tirx.all(*inside), x(*at), value(prim(0)))

        return te.compute(prim_list(shape), element, name="pad")

    return ctx.te(pad_constant, tensor, value, shape, [_sides(borders, a)[0] for a in range(len(shape))], name="pad")


def _as_tensor(fill: Value | None) -> Value:
    assert fill is not None and not isinstance(fill, SymbolicInts)
    return fill


def _sides(borders: dict[int, Border], axis: int) -> tuple[PrimExpr, PrimExpr]:
    border = borders.get(axis)
    return (0, 0) if border is None else (border.before, border.after)


def _pad_by_moving(ctx: Context, data: Value, borders: dict[int, Border], shape: list[PrimExpr], mode: str) -> Value:
    """Each added element is a copy of one inside."""
    dims = tensor_shape(data)
    once = {}
    for axis, border in borders.items():
        if as_int(dims[axis]) == 0:
            raise ConversionError(f"axis {axis} of size 0 has no elements to pad with ({mode})")
        if not known(dims[axis]):
            ctx.check(dims[axis] > 0)
        last = dims[axis] - 1
        once[axis] = ctx.prove(border.before <= last) and ctx.prove(border.after <= last)

    def pad_moved(x: te.Tensor, shape: list, before: list) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            at = [
                _source(p - prim(b), prim(size), mode, once[axis]) if axis in borders else p
                for axis, (p, b, size) in enumerate(zip(i, before, x.shape, strict=True))
            ]
            return x(*at)

        return te.compute(prim_list(shape), element, name=f"pad_{mode}")

    before = [_sides(borders, axis)[0] for axis in range(len(shape))]
    return ctx.te(pad_moved, ctx.tensor(data), shape, before, name=f"pad_{mode}")


def _source(at: PrimExpr, size: PrimExpr, mode: str, once: bool) -> PrimExpr:
    """The element inside that position ``at`` (negative before, ``size`` or more after) repeats."""
    if mode == "edge":
        return tirx.max(tirx.min(at, size - 1), prim(0))
    if mode == "wrap":
        return floormod(at, size)
    if not once:  # the pad is wider than the tensor: it swings to and fro
        period = tirx.max(2 * (size - 1), prim(1))
        at = floormod(at, period)
        return tirx.Select(at < size, at, period - at)
    return tirx.Select(at < 0, -at, tirx.Select(at < size, at, 2 * (size - 1) - at))
