"""Reductions over axes that are themselves computed at run time: only their number is known when compiling."""

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
    for number in numbers:
        ctx.check(tirx.all(number >= -rank, number < rank))
    reduced = [tirx.any(*(tirx.any(number == i, number == i - rank) for number in numbers)) for i in range(rank)]
    folded = [tirx.Select(flag, dim, prim(1)) for flag, dim in zip(reduced, dims, strict=True)]
    kept = [tirx.Select(flag, prim(1), dim) for flag, dim in zip(reduced, dims, strict=True)]
    squeezed = [_nth_kept(reduced, dims, position) for position in range(rank - len(numbers))]
    # Through a tensor, at once: as dims these expressions would be costly to reason about.
    sizes = ctx.ints(ctx.tensor(symbolic([*folded, *kept, *squeezed])))
    for size in sizes:
        if as_int(size) is None:
            ctx.assume_dim(size)
    return RunTimeAxes(tuple(sizes[:rank]), tuple(sizes[rank : 2 * rank]), tuple(sizes[2 * rank :]))


def _nth_kept(reduced: Sequence[PrimExpr], dims: Sequence[PrimExpr], position: int) -> PrimExpr:
    """The size of the dim that is at ``position`` once the reduced ones are gone."""
    before, size = prim(0), prim(0)
    for flag, dim in zip(reduced, dims, strict=True):
        size = tirx.Select(tirx.all(tirx.Not(flag), before == position), dim, size)
        before = before + tirx.Select(flag, prim(0), prim(1))
    return size
