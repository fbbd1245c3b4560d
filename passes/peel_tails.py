"""Cut the loop over vectors in two: whole vectors without a guard, and the guarded one that is left over.

TVM's own ``LoopPartition``, when asked for a loop, cuts it at every comparison below, also at those that an operator
makes: with open sizes it loses guards (writes past the end) or recurses until the stack is full.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.sym import Analyzer, detect_linear_equation

from ..schedules.blocks import TAIL_KEY, as_int, depends_on


def peel_tails() -> tvm.transform.Pass:
    """The pass for lowered functions; loops that don't have the form of ``vectorize_loop`` stay guarded."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.peel_tails")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, (tirx.For, _peel))

    return run


def _peel(loop: tirx.For) -> tirx.Stmt:
    if TAIL_KEY not in loop.annotations:
        return loop
    annotations = {key: value for key, value in loop.annotations.items() if key != TAIL_KEY}
    lanes = int(loop.annotations[TAIL_KEY])
    bound = _bound(loop, lanes)
    if bound is None:
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, loop.body, annotations=annotations)
    whole = Analyzer().simplify(tirx.floordiv(bound, tirx.const(lanes, bound.ty)))
    unguarded = _without_guards(loop.body, loop.loop_var, bound)
    main = tirx.For(loop.loop_var, loop.min, whole, loop.kind, unguarded, annotations=annotations)
    last = tirx.Var(f"{loop.loop_var.name}_tail", loop.loop_var.ty)
    guarded = _replaced(loop.body, loop.loop_var, last)
    count = Analyzer().simplify(loop.extent - whole)
    return tirx.SeqStmt([main, tirx.For(last, whole, count, tirx.ForKind.SERIAL, guarded)])


def _bound(loop: tirx.For, lanes: int) -> Any:
    """n of the guards ``loop * lanes + vector < n`` in the body, ``vector`` a loop of ``lanes``; None without one."""
    extents: dict[Any, int | None] = {}
    conditions: list[Any] = []
    tvm_ffi.structural_walk(
        loop.body,
        [
            (tirx.For, lambda inner: extents.__setitem__(inner.loop_var, as_int(inner.extent))),
            (tirx.IfThenElse, lambda branch: conditions.append(_condition(branch))),
        ],
    )
    bounds = []
    for condition in conditions:
        if isinstance(condition, tirx.LT) and not depends_on(condition.b, [loop.loop_var]):
            terms = detect_linear_equation(condition.a, [loop.loop_var])
            if len(terms) == 2 and as_int(terms[0]) == lanes and extents.get(terms[1]) == lanes:
                bounds.append(condition.b)
    same = bounds and all(tvm_ffi.structural_equal(bounds[0], other) for other in bounds)
    return bounds[0] if same else None


def _condition(branch: tirx.IfThenElse) -> Any:
    condition = branch.condition
    is_likely = isinstance(condition, tvm.ir.Call) and getattr(condition.op, "name", "").endswith("likely")
    return condition.args[0] if is_likely else condition


def _replaced(body: tirx.Stmt, old: Any, new: Any) -> tirx.Stmt:
    return tvm_ffi.structural_map(body, (tvm.ir.Var, lambda var: new if var.same_as(old) else var))


def _without_guards(body: tirx.Stmt, loop_var: Any, bound: Any) -> tirx.Stmt:
    """The guards of the whole vectors dropped: of an ``a < n`` that reads the loop's variable."""

    def drop(branch: tirx.IfThenElse) -> tirx.Stmt:
        condition = _condition(branch)
        ours = isinstance(condition, tirx.LT) and tvm_ffi.structural_equal(condition.b, bound)
        return branch.then_case if ours and depends_on(condition.a, [loop_var]) else branch

    return tvm_ffi.structural_map(body, (tirx.IfThenElse, drop))
