"""Reductions over axes: ReduceSum, ReduceMean, ReduceMax and the others.

https://onnx.ai/onnx/operators/onnx__ReduceSum.html and siblings. 16-bit floats are summed up in float32. Without axes
everything is reduced, or nothing where ``noop_with_empty_axes`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from ...contract import EXTREME, EXTREME_AXES, EXTREME_KEPT
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements
from ..values import PrimExpr, Value, as_int, rank, symbolic, tensor_dtype, tensor_shape
from .activation import number
from .elementwise import add, divide, is_integer, multiply, subtract
from .empty import filled_if_empty
from .logical import where
from .precision import cast_to, in_float32
from .reducers import highest, lowest, reduce_max, reduce_min, reduce_product
from .run_time_axes import RunTimeAxes, read_axes
from .shape import axes_of, normalized_axes, product
from .unary import map_elements

Axes = Sequence[int] | RunTimeAxes
Reduction = Callable[[Context, relax.Expr, Axes, bool], relax.Expr]
"""Takes a tensor, axes (none: nothing to reduce) and whether to keep them as dims of 1."""


def reduced_axes(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Axes:
    data, given = inputs[0], inputs[1] if len(inputs) > 1 else None
    assert data is not None
    if given is not None and ctx.constant(given) is None and as_int(tensor_shape(given)[0]) != 0:
        return read_axes(ctx, given, data)
    axes = None if given is not None and ctx.constant(given) is None else axes_of(ctx, node, inputs)
    if not axes:
        return [] if node.attr("noop_with_empty_axes", 0) else list(range(rank(inputs[0])))
    return sorted(normalized_axes(axes, rank(inputs[0])))


def _reduction(op_type: str) -> Callable[[Reduction], Reduction]:
    def register(function: Reduction) -> Reduction:
        def convert(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
            assert inputs[0] is not None
            axes, keepdims = reduced_axes(ctx, node, inputs), bool(node.attr("keepdims", 1))
            return in_float32(ctx, inputs[0], lambda x: function(ctx, x, axes, keepdims))

        converter(op_type)(convert)
        return function

    return register


def _relax_reduction(operation: Any, reducer: Callable[..., PrimExpr], identity: int) -> Reduction:
    def reduction(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
        if not axes:
            return x
        if isinstance(axes, RunTimeAxes):
            result = axes.reduce(ctx, x, reducer, keepdims, "reduce")
        else:
            result = ctx.emit(operation(x, list(axes), keepdims))
        return filled_if_empty(ctx, result, _sizes(x, axes), lambda dtype: tirx.const(identity, dtype))

    return reduction


def _sizes(x: relax.Expr, axes: Axes) -> list[PrimExpr]:
    """The dims that are reduced."""
    if isinstance(axes, RunTimeAxes):
        return list(axes.folded)
    dims = tensor_shape(x)
    return [dims[axis] for axis in axes]


total = _reduction("ReduceSum")(_relax_reduction(relax.op.sum, te.sum, 0))
_reduction("ReduceProd")(_relax_reduction(relax.op.prod, reduce_product, 1))


@_reduction("ReduceMean")
def mean(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
    if not axes:
        return x
    if not is_integer(tensor_dtype(x)) and not isinstance(axes, RunTimeAxes):
        if never_has_elements(_without(tensor_shape(x), axes)):
            return total(ctx, x, axes, keepdims)  # none to divide, in kernels that then would keep nothing of it
        if any(as_int(size) == 0 for size in _sizes(x, axes)):  # 0 / 0, which TVM would divide while compiling
            return multiply(ctx, total(ctx, x, axes, keepdims), number(float("nan"), x))
        average = ctx.emit(relax.op.mean(x, list(axes), keepdims))
        return filled_if_empty(ctx, average, _sizes(x, axes), lambda dtype: tirx.const(float("nan"), dtype))
    count = symbolic(ctx.simplify(product(_sizes(x, axes))))
    return divide(ctx, total(ctx, x, axes, keepdims), cast_to(ctx, ctx.tensor(count), tensor_dtype(x)))


def _extreme(reducer: Callable[..., PrimExpr], identity: Callable[[str], PrimExpr], kind: str) -> Reduction:
    name = f"reduce_{kind}"

    def reduction(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
        if not axes:
            return x
        if tensor_dtype(x) == "bool":
            return cast_to(ctx, reduction(ctx, cast_to(ctx, x, "uint8"), axes, keepdims), "bool")
        if isinstance(axes, RunTimeAxes):
            result = axes.reduce(ctx, x, reducer, keepdims, name)
        else:
            attrs = {EXTREME: kind, EXTREME_AXES: list(axes), EXTREME_KEPT: keepdims}
            result = ctx.te(
                lambda data: _reduce(data, axes, keepdims, reducer, name), x, name=name, primfunc_attrs=attrs
            )
        return filled_if_empty(ctx, result, _sizes(x, axes), identity)

    return reduction


def _reduce(
    data: te.Tensor, axes: Sequence[int], keepdims: bool, reducer: Callable[..., PrimExpr], name: str
) -> te.Tensor:
    folded = {axis: te.reduce_axis((0, data.shape[axis]), f"k{axis}") for axis in axes}
    kept = [axis for axis in range(len(data.shape)) if keepdims or axis not in folded]
    shape = [1 if axis in folded else data.shape[axis] for axis in kept]

    def element(*index: tirx.Var) -> PrimExpr:
        outer = dict(zip(kept, index, strict=True))
        source = [folded[axis] if axis in folded else outer[axis] for axis in range(len(data.shape))]
        return reducer(data(*source), axis=list(folded.values()))

    return te.compute(shape, element, name=name)


largest = _reduction("ReduceMax")(_extreme(reduce_max, lowest, "max"))
_reduction("ReduceMin")(_extreme(reduce_min, highest, "min"))


@_reduction("ReduceSumSquare")
def sum_square(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
    return total(ctx, multiply(ctx, x, x), axes, keepdims)


@_reduction("ReduceL1")
def l1(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
    magnitude = x if tensor_dtype(x).startswith("uint") else ctx.emit(relax.op.abs(x))
    return total(ctx, magnitude, axes, keepdims)


@_reduction("ReduceL2")
def l2(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
    return _in_floats(ctx, sum_square(ctx, x, axes, keepdims), relax.op.sqrt)


@_reduction("ReduceLogSum")
def log_sum(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
    return _in_floats(ctx, total(ctx, x, axes, keepdims), relax.op.log)


def _in_floats(ctx: Context, x: relax.Expr, function: Any) -> relax.Expr:
    """Integers go through float64 and are cut off, as NumPy does it."""
    dtype = tensor_dtype(x)
    wide = cast_to(ctx, x, "float64") if is_integer(dtype) else x
    return cast_to(ctx, ctx.emit(function(wide)), dtype)


@_reduction("ReduceLogSumExp")
def log_sum_exp(ctx: Context, x: relax.Expr, axes: Axes, keepdims: bool) -> relax.Expr:
    """log(sum(exp(x - m))) + m with m the largest element, or 0 where that is infinite."""
    dtype = tensor_dtype(x)
    x = cast_to(ctx, x, "float64") if is_integer(dtype) else x
    peak = largest(ctx, x, axes, True)
    infinite = map_elements(ctx, peak, tirx.isinf, "is_infinite")
    shift = where(ctx, infinite, number(0, x), peak)
    summed = total(ctx, ctx.emit(relax.op.exp(subtract(ctx, x, shift))), axes, True)
    result = add(ctx, ctx.emit(relax.op.log(summed)), shift)
    if axes and not keepdims:
        result = ctx.tensor(ctx.reshape(result, _without(tensor_shape(x), axes)))
    return cast_to(ctx, result, dtype)


def _without(dims: Sequence[PrimExpr], axes: Axes) -> Sequence[PrimExpr]:
    if isinstance(axes, RunTimeAxes):
        return axes.squeezed
    return [dim for axis, dim in enumerate(dims) if axis not in axes]
