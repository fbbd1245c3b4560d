"""Read padding where it isn't: taps outside of the input are skipped, and the loop over them is cut at the borders.

A kernel reads ``if_then_else(inside, data[...], 0) * weight`` and marks its loop over tiles of a row with ``PEEL_KEY``.
What is added for a tap outside is nothing, so the condition goes around the addition, and up as far as the loops allow.
The loop is then cut in three: first tiles, tiles whose every tap lies in the row, and last tiles. Those in the middle,
which are nearly all, need no condition.

TVM's ``LoopPartition`` is for the same, but gives up where sizes are symbolic, and loses the guards of initial values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.sym import Analyzer, detect_linear_equation

from ..schedules.blocks import PEEL_KEY


def peel_borders() -> tvm.transform.Pass:
    """The pass, for functions whose blocks have become loops, before vectorisation."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.peel_borders")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, (tirx.For, _peel))

    return run


def _peel(loop: tirx.For) -> tirx.Stmt:
    if PEEL_KEY not in loop.annotations:
        return loop
    body = tvm_ffi.structural_map(loop.body, [(tirx.BufferStore, _guard), (tirx.For, _hoist)])
    rest = {key: value for key, value in loop.annotations.items() if key != PEEL_KEY}
    inner = _inner_extents(body)
    zero = tirx.const(0, str(loop.loop_var.ty.dtype))
    low, high, middle = zero, loop.extent, []
    for condition in _conditions(body):
        span = _interior(condition, loop.loop_var, inner)
        if span is not None:
            middle.append(condition)
            low = low if span.low is None else tirx.max(low, span.low)
            high = high if span.high is None else tirx.min(high, span.high)
    if not middle:
        return _loop(loop, loop.extent, body, rest, zero)
    analyzer = Analyzer()
    low = analyzer.simplify(tirx.min(low, loop.extent))
    high = analyzer.simplify(tirx.max(low, high))
    parts = [(zero, low, body), (low, high, _without(body, middle)), (high, loop.extent, body)]
    loops = []
    for start, end, part in parts:
        extent = analyzer.simplify(end - start)
        if not analyzer.can_prove_equal(extent, 0):
            loops.append(_loop(loop, extent, part, rest, start))
    return tirx.SeqStmt(loops) if len(loops) > 1 else loops[0]


def _loop(loop: tirx.For, extent: Any, body: tirx.Stmt, annotations: Any, start: Any) -> tirx.For:
    """``loop`` over part of its range, with variables of its own."""
    variable = tirx.Var(loop.loop_var.name, loop.loop_var.ty)
    at = variable + start
    body = tvm_ffi.structural_map(body, (tvm.ir.Var, lambda var: at if var.same_as(loop.loop_var) else var))
    return tirx.For(variable, loop.min, extent, loop.kind, body, None, annotations)


def _guard(store: tirx.BufferStore) -> tirx.Stmt:
    """``a[i] = a[i] + if_then_else(c, x, 0) * w`` becomes ``if c: a[i] = a[i] + x * w``; sums and maxima likewise."""
    total = store.value
    if not isinstance(total, tirx.Add | tirx.Max):
        return store
    if not tvm_ffi.structural_equal(total.a, tirx.BufferLoad(store.buffer, store.indices)):
        return store
    value: Any = None
    if isinstance(total, tirx.Max) and _is_guarded(total.b, -math.inf):
        condition, value, _ = total.b.args
        value = tirx.max(total.a, value)
    elif isinstance(total, tirx.Add) and _is_guarded(total.b, 0):
        condition, value, _ = total.b.args
        value = total.a + value
    elif isinstance(total, tirx.Add) and isinstance(total.b, tirx.Mul) and _is_guarded(total.b.a, 0):
        condition, value, _ = total.b.a.args
        value = total.a + value * total.b.b
    if value is None:
        return store
    return _nest(_conjuncts(condition), tirx.BufferStore(store.buffer, value, store.indices))


def _is_guarded(value: Any, neutral: float) -> bool:
    if not isinstance(value, tvm.ir.Call) or not str(getattr(value.op, "name", "")).endswith("if_then_else"):
        return False
    return isinstance(value.args[2], tirx.FloatImm) and value.args[2].value == neutral


def _conjuncts(condition: Any) -> list[Any]:
    if isinstance(condition, tirx.And):
        return [*_conjuncts(condition.a), *_conjuncts(condition.b)]
    return [condition]


def _nest(conditions: Iterable[Any], body: tirx.Stmt) -> tirx.Stmt:
    for condition in conditions:
        body = tirx.IfThenElse(condition, body, None)
    return body


def _hoist(loop: tirx.For) -> tirx.Stmt:
    """Conditions that don't depend on the loop go around it."""
    conditions, body = _unnest(loop.body)
    if not conditions:
        return loop
    inner = [c for c in conditions if _uses(c, loop.loop_var)]
    outer = [c for c in conditions if not _uses(c, loop.loop_var)]
    rebuilt = tirx.For(
        loop.loop_var, loop.min, loop.extent, loop.kind, _nest(inner, body), loop.thread_binding, loop.annotations
    )
    return _nest(outer, rebuilt)


def _unnest(body: tirx.Stmt) -> tuple[list[Any], tirx.Stmt]:
    conditions = []
    while isinstance(body, tirx.IfThenElse) and body.else_case is None:
        conditions.append(body.condition)
        body = body.then_case
    return conditions[::-1], body


def _uses(expr: Any, variable: tirx.Var) -> bool:
    found = False

    def visit(var: tirx.Var) -> None:
        nonlocal found
        found = found or var.same_as(variable)

    tvm_ffi.structural_walk(expr, (tvm.ir.Var, visit))
    return found


def _inner_extents(body: tirx.Stmt) -> dict[Any, Any]:
    found: dict[Any, Any] = {}

    def visit(loop: tirx.For) -> None:
        found[loop.loop_var] = loop.extent

    tvm_ffi.structural_walk(body, (tirx.For, visit))
    return found


def _conditions(body: tirx.Stmt) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(body, (tirx.IfThenElse, lambda node: found.append(node.condition)))
    return found


@dataclass(frozen=True)
class _Span:
    """Iterations from ``low`` up to, without it, ``high``; None where there is no such bound."""

    low: Any
    high: Any


def _interior(condition: Any, variable: tirx.Var, inner: dict[Any, Any]) -> _Span | None:
    """For which values of ``variable`` the condition holds whatever the ``inner`` loops do; None if it isn't linear."""
    distance = _distance(condition)  # holds where this is >= 0
    if distance is None or not _uses(distance, variable):
        return None
    variables = [variable, *(var for var in inner if _uses(distance, var))]
    parts = detect_linear_equation(distance, variables)
    if not parts:
        return None
    *factors, rest = parts
    if not all(isinstance(factor, tirx.IntImm) for factor in factors):
        return None
    for var, factor in zip(variables[1:], factors[1:], strict=True):
        if factor.value < 0:
            rest = rest + (inner[var] - 1) * factor
    step, analyzer = factors[0].value, Analyzer()
    if step > 0:  # step * v + rest >= 0
        low = analyzer.simplify(tirx.floordiv(-rest + (step - 1), step))
        return _Span(low, None)
    high = analyzer.simplify(tirx.floordiv(rest, -step) + 1)
    return _Span(None, high)


def _distance(condition: Any) -> Any:
    """An integer that is 0 or more exactly where the comparison holds; None for anything else."""
    if isinstance(condition, tvm.ir.Call) and str(condition.op.name).endswith("likely"):
        condition = condition.args[0]
    match condition:
        case tirx.LE():
            return condition.b - condition.a
        case tirx.LT():
            return condition.b - condition.a - 1
        case tirx.GE():
            return condition.a - condition.b
        case tirx.GT():
            return condition.a - condition.b - 1
    return None


def _without(body: tirx.Stmt, conditions: list[Any]) -> tirx.Stmt:
    def drop(node: tirx.IfThenElse) -> tirx.Stmt:
        known = any(tvm_ffi.structural_equal(node.condition, c) for c in conditions)
        return node.then_case if known else node

    return tvm_ffi.structural_map(body, (tirx.IfThenElse, drop))
