"""Loops over tensors: the body becomes a function of its own, one iteration, with the attribute ``contract.LOOP``.

Its parameters are (index, trip count, condition, sizes, states..., captured...), its result the tuple (condition,
states...). States are the carried values, then a buffer for each collected output, then the number of iterations where
a buffer grows. A carried dim that an iteration may change is unknown outside; the rest keep their expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, te, tirx
from tvm.relax.utils import copy_with_new_vars

from ..contract import LOOP
from ..errors import ConversionError
from . import loop_buffers as buffers
from .context import Context, prim_list
from .sequences import AnySequence, RunTimeSequence, common_rank, emitted, is_sequence, require_sequence
from .values import PrimExpr, Value, as_int, symbolic, tensor_dtype, tensor_shape, to_constant

FOREVER = (1 << 63) - 1
"""The trip count of a loop that only its condition ends."""


@dataclass(frozen=True)
class Iteration:
    """What a body gives: whether to go on (None: yes), the carried values, a row for each collected output."""

    condition: Value | None
    carried: Sequence[Value]
    collected: Sequence[Value]


Body = Callable[[PrimExpr, list[Value]], Iteration]
"""Emits one iteration from its number and the carried values. Called again where a carried dim proves to change."""


@dataclass
class _State:
    """A loop variable: its parameter in the body, its value before the loop, and after an iteration."""

    parameter: relax.Var
    before: Callable[[], relax.Expr]
    after: relax.Expr


@dataclass
class _Loop:
    ctx: Context
    trip: PrimExpr | None
    condition: Value | None
    carried: list[Any]
    """Tensors, and sequences of run-time length."""
    dims: list[list[PrimExpr | None]]
    """Of each carried tensor, then of each buffer; None for one that iterations change."""
    index: relax.Var = field(default_factory=lambda: relax.Var("index", relax.ShapeType(ndim=1)))
    number: tirx.Var | None = None
    states: list[_State] = field(default_factory=list)
    grows: list[bool] = field(default_factory=list)
    goes_on: relax.Expr | None = None


def run_loop(
    ctx: Context, trip: PrimExpr | None, condition: Value | None, carried: Sequence[Value], body: Body
) -> tuple[list[Value], list[Value]]:
    """The carried values after the loop, and the collected rows, each [iterations, ...].

    ``trip`` bounds the number of iterations (None: no bound), ``condition`` (bool) says whether the first one runs.
    Raises ConversionError where an iteration changes the dtype or rank of what it carries.
    """
    known = ctx.constant(condition)
    if known is not None:
        trip, condition = (trip if known.reshape(-1)[0] else 0), None
    start = [emitted(ctx, value) for value in carried]
    loop = _Loop(ctx, trip, condition, start, [[] if is_sequence(v) else list(tensor_shape(v)) for v in start])
    while True:
        blocks = _convert(loop, body)
        if blocks is None:
            continue
        if loop.condition is None or loop.trip is None or loop.goes_on is not None:
            return _results(loop, _call(loop, blocks))
        # Nothing but the first iteration is conditional: then the count is known before.
        loop.trip, loop.condition = _trip_if(ctx, loop.condition, loop.trip), None


def _trip_if(ctx: Context, condition: Value, trip: PrimExpr) -> PrimExpr:
    def count(condition: te.Tensor, trip: PrimExpr) -> te.Tensor:
        return te.compute((), lambda: tirx.Select(condition(), trip, tirx.const(0, "int64")), name="count")

    (chosen,) = ctx.ints(ctx.te(count, scalar_condition(ctx, condition), *prim_list([trip])))
    return chosen


def _convert(loop: _Loop, body: Body) -> list[relax.BindingBlock] | None:
    """One iteration's bindings, or None where a carried dim changed: it is unknown from now on."""
    ctx = loop.ctx
    loop.grows = []
    del loop.dims[len(loop.carried) :]
    with _scope(ctx) as blocks, ctx.branch():
        index = ctx.fresh_dim("i")
        ctx.assume_dim(index)
        ctx.builder.match_cast(loop.index, relax.ShapeType([index]))
        if loop.trip is not None:
            ctx.assume(index < loop.trip)
        parameters = [_parameter(loop, k) for k in range(len(loop.carried))]
        iteration = body(index, [_seen(loop, k, var) for k, var in enumerate(parameters)])
        after = [emitted(ctx, value) for value in iteration.carried]
        if _widen(loop, after):
            return None
        rows = [ctx.tensor(value) for value in iteration.collected]
        loop.states = [_carried(loop, k, var, after[k]) for k, var in enumerate(parameters)]
        _next_condition(loop, iteration.condition)
        blocks.append(ctx.builder._end_block())
        ctx.builder._begin_binding_block()
        inner = _bound_in(blocks[0])
        for row in rows:
            _collect(loop, row, index, inner)
        if any(loop.grows):
            _count(loop, index)
    return blocks


def _carried(loop: _Loop, k: int, parameter: relax.Var, after: Any) -> _State:
    """Its type says after an iteration what it said before: names found inside must not come out."""
    if is_sequence(after):
        return _State(parameter, lambda: loop.carried[k].handle, after.handle)
    if not tvm_ffi.structural_equal(after.ty, parameter.ty):
        after = loop.ctx.builder.match_cast(after, parameter.ty)
    return _State(parameter, lambda: loop.carried[k], after)


@contextmanager
def _scope(ctx: Context) -> Iterator[list[relax.BindingBlock]]:
    blocks: list[relax.BindingBlock] = []
    ctx.builder.begin_scope(None)
    ctx.builder._begin_binding_block()
    try:
        yield blocks
    finally:
        blocks.append(ctx.builder._end_block())
        ctx.builder.end_scope()


def _parameter(loop: _Loop, k: int) -> relax.Var:
    if is_sequence(loop.carried[k]):
        return relax.Var(f"carried_{k}", relax.ObjectType())
    dims, dtype = loop.dims[k], tensor_dtype(loop.carried[k])
    known = [dim for dim in dims if dim is not None]
    if len(known) < len(dims):
        return relax.Var(f"carried_{k}", buffers.unknown_shape(dtype, len(dims)))
    return relax.Var(f"carried_{k}", relax.TensorType(prim_list(known), dtype))


def _seen(loop: _Loop, k: int, var: relax.Var) -> Any:
    """A carried value as the body, or what comes after the loop, knows it."""
    if is_sequence(loop.carried[k]):
        return replace(loop.carried[k], handle=var)
    return _matched(loop.ctx, var, loop.dims[k])


def _matched(ctx: Context, var: relax.Var, dims: Sequence[PrimExpr | None]) -> relax.Var:
    """The variable with a name for each dim that is unknown outside."""
    if isinstance(var.ty.shape, relax.ShapeExpr):
        return var
    return ctx.builder.match_cast(var, relax.TensorType(prim_list([_or_fresh(ctx, d) for d in dims]), var.ty.dtype))


def _or_fresh(ctx: Context, dim: PrimExpr | None) -> PrimExpr:
    if dim is not None:
        return dim
    fresh = ctx.fresh_dim()
    ctx.assume_dim(fresh)
    return fresh


def _widen(loop: _Loop, after: Sequence[Any]) -> bool:
    """Forget the carried dims that are not provably the same after an iteration; whether there was one."""
    changed = False
    for k, (before, now) in enumerate(zip(loop.carried, after, strict=True)):
        if is_sequence(before) or is_sequence(now):
            changed |= _widen_sequence(loop, k, require_sequence(before), require_sequence(now))
            continue
        dims = tensor_shape(now)
        if tensor_dtype(before) != tensor_dtype(now) or len(dims) != len(loop.dims[k]):
            raise ConversionError(
                f"carried value {k} is {tensor_dtype(before)} of rank {len(loop.dims[k])} before an iteration and "
                f"{tensor_dtype(now)} of rank {len(dims)} after it; dtype and rank must stay"
            )
        for axis, (old, new) in enumerate(zip(loop.dims[k], dims, strict=True)):
            if old is not None and not loop.ctx.equal(old, new):
                loop.dims[k][axis] = None
                changed = True
    return changed


def _widen_sequence(loop: _Loop, k: int, before: AnySequence, now: AnySequence) -> bool:
    """Learn what an empty sequence will hold; whether there was something to learn."""
    assert isinstance(before, RunTimeSequence) and isinstance(now, RunTimeSequence)
    if before.dtype != now.dtype:
        raise ConversionError(f"carried value {k} is a sequence of {before.dtype}, after an iteration of {now.dtype}")
    rank = common_rank(before.rank, now.rank)
    loop.carried[k] = replace(before, rank=rank)
    return rank != before.rank


def _next_condition(loop: _Loop, condition: Value | None) -> None:
    known = loop.ctx.constant(condition)
    loop.goes_on = None
    if known is None and condition is not None:
        loop.goes_on = scalar_condition(loop.ctx, condition)
    elif known is not None and not known.reshape(-1)[0]:
        loop.trip = 1 if loop.trip is None else loop.ctx.simplify(tirx.min(*prim_list([loop.trip, 1])))


def scalar_condition(ctx: Context, condition: Value) -> relax.Expr:
    """A condition as a bool tensor without dims."""
    dims = tensor_shape(condition)
    if any(as_int(dim) not in (1, None) for dim in dims) or tensor_dtype(condition) != "bool":
        raise ConversionError(f"the condition must be one bool, found {tensor_dtype(condition)}{list(dims)}")
    tensor = ctx.tensor(condition)
    return tensor if not dims else ctx.emit(relax.op.reshape(tensor, ()))


def _bound_in(block: relax.BindingBlock) -> set[tirx.Var]:
    """Dims that an iteration finds out, which have no meaning outside."""
    bound = relax.analysis.bound_vars(relax.SeqExpr([block], relax.Tuple([])))
    return {var for var in bound if tvm.ir.is_prim_expr(var)}


def _collect(loop: _Loop, row: relax.Expr, index: tirx.Var, inner: set[tirx.Var]) -> None:
    """Add the state that ``row`` is collected in."""
    ctx, dtype, dims = loop.ctx, tensor_dtype(row), tensor_shape(row)
    outer = [None if as_int(dim) is None and inner & set(tirx.analysis.undefined_vars(dim)) else dim for dim in dims]
    counted = loop.trip is not None and loop.condition is None and loop.goes_on is None and None not in outer
    name = f"collected_{len(loop.grows)}"
    loop.grows.append(not counted)
    if counted:
        shape = [ctx.simplify(tirx.max(*prim_list([loop.trip, 0]))), *outer]
        parameter = relax.Var(name, relax.TensorType(prim_list(shape), dtype))
        after = buffers.store(ctx, parameter, row, index)
        loop.dims.append(shape)
    else:
        shape = [0, *(0 if dim is None else dim for dim in outer)]
        parameter = relax.Var(name, buffers.unknown_shape(dtype, len(shape)))
        larger = buffers.grown(ctx, _matched(ctx, parameter, [None, *outer]), row, index)
        after = ctx.builder.match_cast(buffers.store(ctx, larger, row, index), parameter.ty)
        loop.dims.append([None, *outer])
    loop.states.append(_State(parameter, lambda: buffers.allocate(ctx, dtype, shape), after))


def _count(loop: _Loop, index: tirx.Var) -> None:
    def next_number(index: PrimExpr) -> te.Tensor:
        return te.compute((), lambda: index + 1, name="next_number")

    start = to_constant(np.array(0, np.int64))
    parameter = relax.Var("count", relax.TensorType([], "int64"))
    loop.states.append(_State(parameter, lambda: start, loop.ctx.te(next_number, index)))


def _call(loop: _Loop, blocks: list[relax.BindingBlock]) -> relax.Var:
    """Make the function and call it; a variable of the tuple that it returns."""
    ctx = loop.ctx
    trip = relax.Var("trip", relax.TensorType([], "int64"))
    condition = relax.Var("condition", relax.TensorType([], "bool"))
    own = [trip, condition, *(state.parameter for state in loop.states)]
    goes_on = condition if loop.goes_on is None else loop.goes_on
    result = relax.Tuple([goes_on, *(state.after for state in loop.states)])
    body = ctx.builder.normalize(relax.SeqExpr(blocks, result))
    captured = [v for v in relax.analysis.free_vars(body) if not tvm.ir.is_prim_expr(v) and v not in own + [loop.index]]
    dims = _free_dims(body, [*own, *captured])
    parameters = [loop.index, trip, condition, relax.Var("sizes", relax.ShapeType(dims)), *own[2:], *captured]
    function = relax.Function(parameters, body, body.ty, is_pure=True).with_attr(LOOP, True)
    callee = ctx.builder.add_func(copy_with_new_vars(function), "loop")
    # With a symbol it keeps parameters that it doesn't read: a loop needs them all.
    ctx.builder.update_func(callee, ctx.builder.get()[callee].with_attr("global_symbol", callee.name_hint))
    arguments = [
        relax.ShapeExpr([tirx.const(0, "int64")]),
        ctx.tensor(symbolic(FOREVER if loop.trip is None else loop.trip)),
        to_constant(np.array(True)) if loop.condition is None else scalar_condition(ctx, loop.condition),
        relax.ShapeExpr(dims),
        *(state.before() for state in loop.states),
        *captured,
    ]
    return ctx.emit(relax.Call(callee, arguments), "loop")


def _free_dims(body: relax.Expr, variables: Sequence[relax.Var]) -> list[tirx.Var]:
    """Sizes from outside that the body or the variables' types name."""
    free = set(relax.analysis.free_symbolic_vars(relax.Function([], body, body.ty)))
    for var in variables:
        if isinstance(var.ty, relax.TensorType) and isinstance(var.ty.shape, relax.ShapeExpr):
            free |= {name for dim in var.ty.shape.values for name in tirx.analysis.undefined_vars(dim)}
    return sorted(free, key=lambda var: var.name)


def _results(loop: _Loop, called: relax.Var) -> tuple[list[Value], list[Value]]:
    ctx = loop.ctx
    fields = [ctx.emit(relax.TupleGetItem(called, i + 1)) for i in range(len(loop.states))]
    count = len(loop.carried)
    carried = [_seen(loop, k, var) for k, var in enumerate(fields[:count])]
    collected = [_matched(ctx, var, dims) for var, dims in zip(fields[count:], loop.dims[count:], strict=False)]
    if any(loop.grows):
        (iterations,) = ctx.ints(fields[-1], "the number of iterations")
        ctx.assume_dim(iterations)
        collected = [
            buffers.first_rows(ctx, rows, iterations) if grows else rows
            for rows, grows in zip(collected, loop.grows, strict=True)
        ]
    return carried, list(collected)
