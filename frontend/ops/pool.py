"""Pools: https://onnx.ai/onnx/operators/onnx__MaxPool.html and siblings.

Relax's operators, which layout passes know, serve where they mean the same; the rest is written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from ..windows import Window, attribute, output_sizes, window_of
from .conv import NARROW
from .empty import filled_if_empty
from .precision import in_float32, widened
from .reduce import mean, total
from .reducers import lowest, number_max

_MAX = {1: relax.op.nn.max_pool1d, 2: relax.op.nn.max_pool2d, 3: relax.op.nn.max_pool3d}
_AVERAGE = {1: relax.op.nn.avg_pool1d, 2: relax.op.nn.avg_pool2d, 3: relax.op.nn.avg_pool3d}


@converter("MaxPool")
def max_pool(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value | list[Value]:
    x, window, shape = _setup(ctx, node, inputs[0])
    values = _largest(ctx, x, window, shape)
    if not node.has_output(1):
        return values
    places = _places_of(ctx, x, values, window)
    sizes = list(tensor_shape(x)[2:])
    reversed_axes = bool(node.attr("storage_order", 0)) and len(sizes) > 1
    return [values, ctx.te(_column_major, places, sizes) if reversed_axes else places]


def _largest(ctx: Context, x: relax.Expr, window: Window, shape: list[PrimExpr]) -> relax.Expr:
    pads = _pads_to(window, tensor_shape(x)[2:], shape[2:])
    if pads is not None:
        pool = _MAX[len(window.kernel)]
        call = pool(x, list(window.kernel), list(window.strides), pads, list(window.dilations))
        emitted = emit_if_shape(ctx, call, shape)
        if emitted is not None:
            return emitted

    def max_pool(x: te.Tensor, shape: list, before: list) -> te.Tensor:
        start = lowest(str(x.dtype))
        return te.compute(
            prim_list(shape), lambda *i: _reduced(number_max, x, i, window, before, start), name="max_pool"
        )

    return ctx.te(max_pool, x, shape, list(window.before))


@converter("AveragePool")
def average_pool(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    x, window, shape = _setup(ctx, node, inputs[0])
    include = bool(node.attr("count_include_pad", 0))
    pads = window.fixed_pads
    plain = not node.attr("ceil_mode", 0) and all(dilation == 1 for dilation in window.dilations)
    if pads is not None and plain and tensor_dtype(x) not in NARROW:
        call = _AVERAGE[len(window.kernel)](
            x, list(window.kernel), list(window.strides), pads, count_include_pad=include and any(pads)
        )
        emitted = emit_if_shape(ctx, call, shape)
        if emitted is not None:
            return emitted

    wide = "float32" if tensor_dtype(x) in NARROW else tensor_dtype(x)

    def pool_sum(x: te.Tensor, shape: list, before: list) -> te.Tensor:
        zero = tirx.const(0, wide)
        return te.compute(
            prim_list(shape), lambda *i: _reduced(te.sum, x, i, window, before, zero, wide), name="pool_sum"
        )

    sums = ctx.te(pool_sum, x, shape, list(window.before))

    def pool_mean(sums: te.Tensor, sizes: list, before: list, after: list) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            counts = [_count(window, a, at, sizes[a], before[a], after[a], include) for a, at in enumerate(i[2:])]
            return (sums(*i) / reduce(lambda a, b: a * b, counts).astype(wide)).astype(tensor_dtype(x))

        return te.compute(sums.shape, element, name="pool_mean")

    return ctx.te(pool_mean, sums, list(tensor_shape(x)[2:]), list(window.before), list(window.after))


@converter("LpPool")
def lp_pool(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    x, window, shape = _setup(ctx, node, inputs[0])
    p, wide = float(node.attr("p", 2)), "float32" if tensor_dtype(x) in NARROW else tensor_dtype(x)

    def pool_powers(x: te.Tensor, shape: list, before: list) -> te.Tensor:
        powers = te.compute(
            x.shape, lambda *i: tirx.power(tirx.abs(x(*i).astype(wide)), tirx.const(p, wide)), name="powers"
        )
        zero = tirx.const(0, wide)
        return te.compute(
            prim_list(shape), lambda *i: _reduced(te.sum, powers, i, window, before, zero), name="pool_powers"
        )

    sums = ctx.te(pool_powers, x, shape, list(window.before))
    return _root(ctx, sums, p, tensor_dtype(x))


@converter("GlobalAveragePool")
def global_average_pool(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return in_float32(ctx, inputs[0], lambda x: mean(ctx, x, _spatial(inputs[0]), True))


@converter("GlobalMaxPool")
def global_max_pool(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    axes = _spatial(inputs[0])
    result = ctx.emit(relax.op.max(ctx.tensor(inputs[0]), axes, keepdims=True))
    return filled_if_empty(ctx, result, [tensor_shape(inputs[0])[axis] for axis in axes], lowest)


@converter("GlobalLpPool")
def global_lp_pool(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    p, dtype = float(node.attr("p", 2)), tensor_dtype(inputs[0])

    def powers(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *i: tirx.power(tirx.abs(x(*i)), tirx.const(p, x.dtype)), name="powers")

    raised = ctx.te(powers, widened(ctx, inputs[0]))
    return _root(ctx, total(ctx, raised, _spatial(inputs[0]), True), p, dtype)


def _root(ctx: Context, sums: relax.Expr, p: float, dtype: str) -> relax.Expr:
    def pth_root(x: te.Tensor) -> te.Tensor:
        inverse = tirx.const(1 / p, x.dtype)
        return te.compute(x.shape, lambda *i: tirx.power(x(*i), inverse).astype(dtype), name="pth_root")

    return ctx.te(pth_root, sums)


def _spatial(value: Value) -> list[int]:
    count = len(tensor_shape(value))
    if count < 3:
        raise ConversionError(f"needs a batch, channels and at least one more axis, found rank {count}")
    return list(range(2, count))


def _setup(ctx: Context, node: Node, data: Value) -> tuple[relax.Expr, Window, list[PrimExpr]]:
    dims = tensor_shape(data)
    count = len(_spatial(data))
    if count > 3:
        raise ConversionError(f"pools over 1, 2 or 3 axes are taken, found {count}")
    kernel = attribute(node, "kernel_shape", count, 1)
    window = window_of(ctx, node, dims[2:], kernel)
    sizes = output_sizes(ctx, window, dims[2:], ceil=bool(node.attr("ceil_mode", 0)), cut=True)
    return ctx.tensor(data), window, [*dims[:2], *sizes]


def _pads_to(window: Window, sizes: Sequence[PrimExpr], outputs: Sequence[PrimExpr]) -> list[int] | None:
    """Pads with which every output has its whole window: more after the input where ``ceil_mode`` asks for it."""
    if window.fixed_pads is None:
        return None
    after = []
    for i, (size, out) in enumerate(zip(sizes, outputs, strict=True)):
        if not known(size, out):
            after.append(int(window.after[i]))  # the caller compares shapes
            continue
        needed = (int(out) - 1) * window.strides[i] + window.extents[i] - int(size) - int(window.before[i])
        after.append(max(int(window.after[i]), needed))
    return [*(int(pad) for pad in window.before), *after]


def _positions(
    i: Sequence[PrimExpr], window: Window, taps: Sequence[PrimExpr], before: Sequence[PrimExpr]
) -> list[PrimExpr]:
    axes = zip(i[2:], window.strides, window.dilations, taps, before, strict=True)
    return [at * stride + tap * dilation - prim(pad) for at, stride, dilation, tap, pad in axes]


def _inside(places: Sequence[PrimExpr], sizes: Sequence[PrimExpr]) -> PrimExpr:
    return tirx.all(*(c for place, size in zip(places, sizes, strict=True) for c in (place >= 0, place < prim(size))))


def _reduced(
    reducer: object,
    x: te.Tensor,
    i: Sequence[PrimExpr],
    window: Window,
    before: list,
    neutral: PrimExpr,
    wide: str = "",
) -> PrimExpr:
    """One output of a pool: ``reducer`` over its window, with ``neutral`` for what lies in the padding."""
    taps = [te.reduce_axis((0, k), f"k{axis}") for axis, k in enumerate(window.kernel)]
    places = _positions(i, window, [tap.var for tap in taps], before)
    within = _inside(places, x.shape[2:])
    if any(window.fixed_pads or [1]):
        value = tirx.if_then_else(within, _wide(x(*i[:2], *places), wide), neutral)
    else:  # outside only where an input is too small for its one window; a vector has no use for a branch
        last = [tirx.min(place, prim(size) - 1) for place, size in zip(places, x.shape[2:], strict=True)]
        value = tirx.Select(within, _wide(x(*i[:2], *last), wide), neutral)
    return reducer(value, axis=taps)  # type: ignore[operator]


def _wide(value: PrimExpr, wide: str) -> PrimExpr:
    return value.astype(wide) if wide else value


def _count(
    window: Window, axis: int, at: PrimExpr, size: PrimExpr, before: PrimExpr, after: PrimExpr, include: bool
) -> PrimExpr:
    """How many taps of window ``at`` lie in the input, or with ``include`` in the padded input; at least 1."""
    start, step = at * window.strides[axis] - prim(before), window.dilations[axis]
    low, high = (-prim(before), prim(size) + prim(after)) if include else (prim(0), prim(size))
    kernel = prim(window.kernel[axis])

    def taps_below(bound: PrimExpr) -> PrimExpr:
        distance = tirx.max(bound - start, prim(0))
        return tirx.min(tirx.truncdiv(distance + (step - 1), prim(step)), kernel)

    return tirx.max(taps_below(high) - taps_below(low), prim(1))


def _places_of(ctx: Context, x: relax.Expr, values: relax.Expr, window: Window) -> relax.Expr:
    """The first position in each window, counted over the flattened input, of an element equal to the largest."""

    def pool_places(x: te.Tensor, values: te.Tensor, before: list) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            taps = [te.reduce_axis((0, k), f"k{axis}") for axis, k in enumerate(window.kernel)]
            places = _positions(i, window, [tap.var for tap in taps], before)
            value = tirx.if_then_else(_inside(places, x.shape[2:]), x(*i[:2], *places), lowest(str(x.dtype)))
            found = tirx.And(_inside(places, x.shape[2:]), value == values(*i))
            return te.min(tirx.Select(found, _flat(x.shape, [*i[:2], *places]), tirx.max_value("int64")), axis=taps)

        return te.compute(values.shape, element, name="pool_places")

    return ctx.te(pool_places, x, values, list(window.before))


def _flat(dims: Sequence[PrimExpr], at: Sequence[PrimExpr]) -> PrimExpr:
    flat = prim(0)
    for size, place in zip(dims, at, strict=True):
        flat = flat * prim(size) + place
    return flat


def _column_major(places: te.Tensor, sizes: list[PrimExpr]) -> te.Tensor:
    """Flat positions with the spatial axes in reversed order (``storage_order`` 1)."""

    def element(*i: tirx.Var) -> PrimExpr:
        rest, at = places(*i), []
        for size in reversed(sizes):
            at.append(tirx.truncmod(rest, prim(size)))
            rest = tirx.truncdiv(rest, prim(size))
        return _flat([1, *reversed(sizes)], [rest, *at])

    return te.compute(places.shape, element, name="column_major")
