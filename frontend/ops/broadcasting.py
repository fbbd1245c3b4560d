"""ONNX's multidirectional broadcasting where dims may be symbolic, and the elementwise operators built on it.

https://onnx.ai/onnx/repo-docs/Broadcasting.html. For each pair of dims: provably equal sizes and constant ones are
settled while compiling. What is left is settled when the model runs: the output's dim is chosen there, an operand of
size 1 is read at index 0, and sizes that don't broadcast make the run fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context, expression_size, prim_list
from ..shapes import emit_if_shape
from ..values import PrimExpr, Value, as_int, tensor_shape

Scalar = Callable[..., PrimExpr]
"""Takes one scalar expression per operand, gives the element of the output."""

RelaxOp = Callable[..., relax.Expr]


@dataclass(frozen=True)
class Broadcast:
    """``shape`` is the output's; ``exact`` says that no dim had to be chosen at run time."""

    shape: tuple[PrimExpr, ...]
    exact: bool


def broadcast(ctx: Context, shapes: Sequence[Sequence[PrimExpr]]) -> Broadcast:
    """The common shape. Raises ConversionError for sizes that can't be broadcast; checks the others at run time."""
    rank = max(len(shape) for shape in shapes)
    columns = [[shape[i - rank] for shape in shapes if i - rank >= -len(shape)] for i in range(rank)]
    merged = [_merge(ctx, column, shapes) for column in columns]
    return Broadcast(tuple(dim for dim, _ in merged), all(exact for _, exact in merged))


def _merge(ctx: Context, dims: Sequence[PrimExpr], shapes: Sequence[Sequence[PrimExpr]]) -> tuple[PrimExpr, bool]:
    """The size that all of ``dims`` broadcast to, and whether it is known without running."""
    fixed = {int(dim) for dim in dims if as_int(dim) not in (None, 1)}
    if len(fixed) > 1:
        raise ConversionError(f"shapes {' and '.join(str(list(shape)) for shape in shapes)} can't be broadcast")
    distinct = _distinct(ctx, [dim for dim in dims if as_int(dim) is None])
    if fixed:
        (size,) = fixed
        for dim in distinct:
            ctx.check(tirx.EQ(dim, _int64(size)) if _differs_from_1(ctx, dim) else _either(dim, size))
        return size, not distinct
    if not distinct:
        return 1, True
    chosen = reduce(lambda a, b: _choose(ctx, a, b), distinct)
    return ctx.compact(chosen), len(distinct) == 1


def _distinct(ctx: Context, dims: Sequence[PrimExpr]) -> list[PrimExpr]:
    """The dims that are not provably equal, each as its shortest expression."""
    found: list[PrimExpr] = []
    for dim in dims:
        match = next((i for i, other in enumerate(found) if ctx.equal(dim, other)), None)
        if match is None:
            found.append(dim)
        else:
            found[match] = min(found[match], dim, key=expression_size)
    return found


def _choose(ctx: Context, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The size of two that differ as expressions; the run fails where they don't broadcast.

    Often one being 1 implies that the other is (``min(seq, 512)`` and ``seq``): then nothing is left to choose.
    """
    a_leads = _implies(ctx, tirx.EQ(a, _int64(1)), tirx.EQ(b, _int64(1)))
    b_leads = _implies(ctx, tirx.EQ(b, _int64(1)), tirx.EQ(a, _int64(1)))
    if a_leads and b_leads:
        ctx.check(tirx.EQ(a, b))
        return min(a, b, key=expression_size)
    same = tirx.EQ(a, b)
    if a_leads or b_leads:
        lead, follower = (a, b) if a_leads else (b, a)
        ctx.check(tirx.Or(same, tirx.EQ(follower, _int64(1))))
        return lead
    ctx.check(tirx.Or(same, tirx.Or(tirx.EQ(a, _int64(1)), tirx.EQ(b, _int64(1)))))
    return tirx.Select(tirx.EQ(a, _int64(1)), b, a)


def _implies(ctx: Context, premise: PrimExpr, conclusion: PrimExpr) -> bool:
    return ctx.prove(tirx.Or(tirx.Not(premise), conclusion))


def _either(dim: PrimExpr, size: int) -> PrimExpr:
    return tirx.Or(tirx.EQ(dim, _int64(size)), tirx.EQ(dim, _int64(1)))


def _differs_from_1(ctx: Context, dim: PrimExpr) -> bool:
    return ctx.prove(tirx.NE(dim, _int64(1)))


def _int64(value: int) -> PrimExpr:
    return tirx.const(value, "int64")


_ZERO, _SAME, _AT_RUN = "zero", "same", "at run"


def _reading(ctx: Context, dims: Sequence[PrimExpr], shape: Sequence[PrimExpr]) -> list[str]:
    """How an operand of ``dims`` is read along each of its axes to fill ``shape``."""
    offset = len(shape) - len(dims)
    ways = []
    for axis, dim in enumerate(dims):
        wanted = shape[offset + axis]
        # Where both are 1 any index is 0; written as the output's, TVM sees an elementwise operator and fuses it.
        same = ctx.equal(dim, wanted) if as_int(dim) is None else int(dim) != 1 or as_int(wanted) == 1
        ways.append(_SAME if same else _AT_RUN if as_int(dim) is None else _ZERO)
    return ways


def _read(tensor: te.Tensor, ways: Sequence[str], index: Sequence[PrimExpr]) -> PrimExpr:
    """The operand's element for the output's ``index``.

    The dims are the tensor's own: expressions from outside the kernel don't hold inside it.
    """
    inner = index[len(index) - len(ways) :]
    place = {
        _ZERO: lambda _dim, _i: _int64(0),
        _SAME: lambda _dim, i: i,
        _AT_RUN: lambda dim, i: i * tirx.NE(dim, _int64(1)).astype("int64"),
    }
    return tensor(*(place[way](dim, i) for way, dim, i in zip(ways, tensor.shape, inner, strict=True)))


INJECTIVE = {"op_pattern": 2}
"""Tells the fusion that a kernel is injective where it can't see that through indices with dims in them."""


def elementwise(
    ctx: Context,
    inputs: Sequence[Value],
    scalar: Scalar,
    relax_op: RelaxOp | None = None,
    name: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> relax.Expr:
    """``scalar`` over the broadcast inputs; as ``relax_op`` where one is given and Relax can infer the shape.

    ``attributes`` are the kernel's.
    """
    shapes = [tensor_shape(value) for value in inputs]
    plan = broadcast(ctx, shapes)
    if relax_op is not None:
        # A kernel of its own stretches what may have size 1: it fuses, and passes still see the operator.
        operands = inputs if plan.exact else [_stretched(ctx, value, plan.shape) for value in inputs]
        result = emit_if_shape(ctx, relax_op(*_relax_operands(ctx, operands, len(plan.shape))), plan.shape)
        if result is not None:
            return result
    literals = [literal(value) for value in inputs]
    if all(item is not None for item in literals):
        literals = [None] * len(literals)  # a kernel needs an operand
    tensors = [ctx.tensor(value) for value, item in zip(inputs, literals, strict=True) if item is None]
    readings = [_reading(ctx, dims, plan.shape) for dims in shapes]

    def kernel(arguments: Sequence[te.Tensor], shape: Sequence[PrimExpr]) -> te.Tensor:
        def element(*index: tirx.Var) -> PrimExpr:
            rest = iter(arguments)
            return scalar(
                *(
                    item if item is not None else _read(next(rest), ways, index)
                    for item, ways in zip(literals, readings, strict=True)
                )
            )

        return te.compute(shape, element, name=name or "elementwise")

    marks = {**(_pattern(readings) or {}), **(attributes or {})} or None
    return ctx.te(kernel, tensors, list(plan.shape), name=name or "elementwise", primfunc_attrs=marks)


def _pattern(readings: Sequence[Sequence[str]]) -> dict[str, int] | None:
    return INJECTIVE if any(_AT_RUN in ways for ways in readings) else None


def literal(value: Value) -> Any:
    """A constant with one element as a scalar expression, else None."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.name in _LITERALS:
        return tirx.const(value.reshape(-1)[0].item(), value.dtype.name)
    return None


_LITERALS = {"float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"}


def _relax_operands(ctx: Context, inputs: Sequence[Value], rank: int) -> list[relax.Expr]:
    """Constants with one element lose their dims: Relax writes scalars into the kernel's code."""
    keeps_rank = [len(tensor_shape(value)) == rank for value in inputs]
    operands = []
    for position, value in enumerate(inputs):
        others = keeps_rank[:position] + keeps_rank[position + 1 :]
        if isinstance(value, np.ndarray) and value.size == 1 and any(others):
            keeps_rank[position] = rank == 0
            value = value.reshape(())
        operands.append(ctx.tensor(value))
    return operands


def _stretched(ctx: Context, value: Value, shape: Sequence[PrimExpr]) -> Value:
    """The value with every dim that only run time can tell from 1 as large as the output's."""
    dims = tensor_shape(value)
    ways = _reading(ctx, dims, shape)
    if _AT_RUN not in ways:
        return value
    offset = len(shape) - len(dims)
    return broadcast_to(ctx, value, [1 if way == _ZERO else shape[offset + i] for i, way in enumerate(ways)], "stretch")


def broadcast_to(ctx: Context, value: Value, shape: Sequence[PrimExpr], name: str = "broadcast_to") -> relax.Expr:
    """The value read as if it had ``shape``; the caller has checked that it broadcasts to it."""
    dims = tensor_shape(value)
    if len(dims) == len(shape) and all(ctx.equal(a, b) for a, b in zip(dims, shape, strict=True)):
        return ctx.tensor(value)
    settled = all(as_int(a) == 1 or ctx.equal(a, b) for a, b in zip(dims, shape[len(shape) - len(dims) :], strict=True))
    if settled:
        return ctx.emit(relax.op.broadcast_to(ctx.tensor(value), relax.ShapeExpr(prim_list(shape))))

    ways = _reading(ctx, dims, shape)

    def kernel(data: te.Tensor, shape: Sequence[PrimExpr]) -> te.Tensor:
        return te.compute(shape, lambda *index: _read(data, ways, index), name=name)

    return ctx.te(kernel, value, list(shape), name=name, primfunc_attrs=_pattern([ways]))
