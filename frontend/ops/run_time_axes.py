"""Axes that are themselves computed at run time, reduced, inserted or dropped: only their number is known before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context
from ..values import PrimExpr, Value, as_int, symbolic, tensor_shape


@dataclass(frozen=True)
class RunTimeAxes:
    """Per dim of the data: ``folded`` elements become one of ``kept``; one of the two is the dim's size, the other 1.

    ``squeezed`` is ``kept`` without the dims that were reduced.
    """

    folded: tuple[PrimExpr, ...]
    kept: tuple[PrimExpr, ...]
    squeezed: tuple[PrimExpr, ...]

    def reduce(
        self, ctx: Context, data: relax.Expr, reducer: Callable[..., PrimExpr], keepdims: bool, name: str
    ) -> relax.Expr:
        """Every axis is a loop of the reduction; those that are not reduced run once."""

        def kernel(tensor: te.Tensor, kept: Sequence[PrimExpr], folded: Sequence[PrimExpr]) -> te.Tensor:
            inner = [te.reduce_axis((0, size), f"k{i}") for i, size in enumerate(folded)]

            def element(*outer: tirx.Var) -> PrimExpr:
                return reducer(tensor(*(o + k for o, k in zip(outer, inner, strict=True))), axis=inner)

            return te.compute(kept, element, name=name)

        result = ctx.te(kernel, data, list(self.kept), list(self.folded), name=name)
        return result if keepdims else ctx.tensor(ctx.reshape(result, self.squeezed))


def read_axes(ctx: Context, axes: Value, data: Value) -> RunTimeAxes:
    """Read the axes; the run fails for one that doesn't exist."""
    dims = [prim(dim) for dim in tensor_shape(data)]
    rank = len(dims)
    numbers = ctx.ints(axes, "axes")
    if len(numbers) > rank:
        raise ConversionError(f"{len(numbers)} axes of a tensor with {rank} dims")
    reduced = _flags(ctx, numbers, rank)
    folded = [tirx.Select(flag, dim, prim(1)) for flag, dim in zip(reduced, dims, strict=True)]
    kept = [tirx.Select(flag, prim(1), dim) for flag, dim in zip(reduced, dims, strict=True)]
    squeezed = [_nth_kept(reduced, dims, position) for position in range(rank - len(numbers))]
    sizes = _computed(ctx, [*folded, *kept, *squeezed])
    return RunTimeAxes(tuple(sizes[:rank]), tuple(sizes[rank : 2 * rank]), tuple(sizes[2 * rank :]))


def squeezed(ctx: Context, data: Value, axes: Value) -> Value:
    """``data`` without the axes, whose size must be 1: the run fails for another, and for an axis named twice."""
    dims = [prim(dim) for dim in tensor_shape(data)]
    numbers = ctx.ints(axes, "axes")
    if len(numbers) > len(dims):
        raise ConversionError(f"{len(numbers)} axes of a tensor with {len(dims)} dims")
    dropped = _flags(ctx, numbers, len(dims))
    _check_distinct(ctx, numbers, dropped)
    for flag, dim in zip(dropped, dims, strict=True):
        ctx.check(tirx.any(tirx.Not(flag), dim == 1))
    shape = [_nth_kept(dropped, dims, position) for position in range(len(dims) - len(numbers))]
    return ctx.reshape(ctx.tensor(data), _computed(ctx, shape))


def unsqueezed(ctx: Context, data: Value, axes: Value) -> Value:
    """``data`` with dims of 1 inserted at the axes of the result; the run fails where that is impossible."""
    dims = [prim(dim) for dim in tensor_shape(data)]
    numbers = ctx.ints(axes, "axes")
    rank = len(dims) + len(numbers)
    inserted = _flags(ctx, numbers, rank)
    _check_distinct(ctx, numbers, inserted)
    shape, before = [], prim(0)
    for flag in inserted:
        size = prim(1)
        for position, dim in enumerate(dims):
            size = tirx.Select(before == position, dim, size)
        shape.append(tirx.Select(flag, prim(1), size))
        before = before + tirx.Select(flag, prim(0), prim(1))
    return ctx.reshape(ctx.tensor(data), _computed(ctx, shape))


def _flags(ctx: Context, numbers: Sequence[PrimExpr], rank: int) -> list[PrimExpr]:
    """For each dim whether an axis names it; the run fails for an axis that doesn't exist."""
    for number in numbers:
        ctx.check(tirx.all(number >= -rank, number < rank))
    if not numbers:
        return [tirx.const(False)] * rank
    return [tirx.any(*(tirx.any(number == i, number == i - rank) for number in numbers)) for i in range(rank)]


def _check_distinct(ctx: Context, numbers: Sequence[PrimExpr], flags: Sequence[PrimExpr]) -> None:
    count = prim(0)
    for flag in flags:
        count = count + tirx.Select(flag, prim(1), prim(0))
    ctx.check(tirx.EQ(count, prim(len(numbers))))


def _computed(ctx: Context, sizes: Sequence[PrimExpr]) -> list[PrimExpr]:
    """Sizes through a tensor, at once: as dims these expressions would be costly to reason about."""
    if not sizes:
        return []
    read = ctx.ints(ctx.tensor(symbolic(list(sizes))))
    for size in read:
        if as_int(size) is None:
            ctx.assume_dim(size)
    return read


def _nth_kept(reduced: Sequence[PrimExpr], dims: Sequence[PrimExpr], position: int) -> PrimExpr:
    """The size of the dim that is at ``position`` once the reduced ones are gone."""
    before, size = prim(0), prim(0)
    for flag, dim in zip(reduced, dims, strict=True):
        size = tirx.Select(tirx.all(tirx.Not(flag), before == position), dim, size)
        before = before + tirx.Select(flag, prim(0), prim(1))
    return size
