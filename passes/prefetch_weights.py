"""Fetch the packed weights of the next output channels while these are worked on.

A kernel reads a panel of weights, those of one register tile's output channels, once for each tile of pixels, and then
goes on to the next panel. The first of these passes would wait for memory, and memory would idle during the others.
So every pass fetches its share of the panel that follows, into the second-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer

from ..schedules.blocks import PREFETCH_KEY, as_int, depends_on

LINE = 16
"""fp32 weights of a cache line."""


def prefetch_weights() -> tvm.transform.Pass:
    """The pass for unrolled and vectorised functions.

    A loop over input channels is marked with the number of cache lines of a panel, which lie in memory one after the
    other, the next panel behind them.
    """

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.prefetch_weights")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        loops: list[tirx.For] = []
        tvm_ffi.structural_walk(function.body, (tirx.For, loops.append), order="pre")  # outer loops first
        bodies = {}
        for loop in loops:
            if PREFETCH_KEY in loop.annotations:
                outside = [outer for outer in loops if not outer.same_as(loop) and _holds(outer, loop)]
                bodies[loop] = _fetching(loop, outside)
        if not bodies:
            return function
        return tvm_ffi.structural_map(function, (tirx.For, lambda loop: _replaced(loop, bodies)))

    return run


def _holds(outer: tirx.For, inner: tirx.For) -> bool:
    found: list[bool] = []
    tvm_ffi.structural_walk(outer.body, (tirx.For, lambda loop: found.append(True) if loop.same_as(inner) else None))
    return bool(found)


def _replaced(loop: tirx.For, bodies: dict[tirx.For, tirx.Stmt]) -> tirx.For:
    if PREFETCH_KEY not in loop.annotations:
        return loop
    body = next(body for marked, body in bodies.items() if marked.loop_var.same_as(loop.loop_var))
    annotations = {key: value for key, value in loop.annotations.items() if key != PREFETCH_KEY}
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, annotations=annotations)


@dataclass(frozen=True)
class _Walk:
    """How a panel is read: ``steps`` are the loops over it, ``passes`` those that read it again; innermost last.

    ``open_passes`` read it again too, an unknown number of times.
    """

    steps: list[tirx.For]
    passes: list[tirx.For]
    open_passes: list[tirx.For]

    @property
    def step_count(self) -> int:
        return _product(self.steps)

    @property
    def pass_count(self) -> int:
        return _product(self.passes)


def _fetching(loop: tirx.For, outside: list[tirx.For]) -> tirx.Stmt:
    lines = int(loop.annotations[PREFETCH_KEY])
    loads = _weight_loads(loop)
    if not loads:
        return loop.body
    walk = _walk([*outside, loop], loads, lines)
    start = {step.loop_var: step.min for step in walk.steps}
    base = _first(loads).indices[-1].base
    panel = tvm_ffi.structural_map(base, (tvm.ir.Var, lambda v: _value(start, v)))
    if len(walk.open_passes) == 1 and walk.pass_count == 1 and lines % walk.step_count == 0:
        return tirx.SeqStmt([*_spread(walk, loads[0].source, panel, base, lines // walk.step_count), loop.body])
    share = -(-lines // walk.pass_count)
    at_once = -(-share // walk.step_count)
    every = 1 << (walk.step_count // share).bit_length() - 1 if at_once == 1 else 1
    step = _position(walk.steps, base)
    first = panel + (lines + _position(walk.passes, base) * share + tirx.floordiv(step, every) * at_once) * LINE
    source = loads[0].source
    fetches = [tirx.Evaluate(_prefetch(source, first + i * LINE)) for i in range(at_once)]
    body: tirx.Stmt = tirx.SeqStmt(fetches) if at_once > 1 else fetches[0]
    conditions = [loop.loop_var == loop.min for loop in walk.open_passes]
    if every > 1:
        conditions.append(tirx.floormod(step, every) == 0)
    if share * every < walk.step_count * at_once:
        conditions.append(step < share * every)
    if conditions:
        body = tirx.IfThenElse(tirx.all(*conditions), body, None)
    return tirx.SeqStmt([body, loop.body])


def _spread(walk: _Walk, source: Any, panel: Any, base: Any, parts: int) -> list[tirx.Stmt]:
    """The next panel in ``parts``, one in each of the first passes; the last pass fetches all that are left.

    In one pass alone they would come faster than memory gives them, and be dropped.
    """
    outer = walk.open_passes[0]
    number = outer.loop_var - outer.min
    step = _position(walk.steps, base)
    fetches: list[tirx.Stmt] = []
    for part in range(parts):
        turn = tirx.Or(number == part, tirx.And(number < part, number == outer.extent - 1))
        line = (parts + part) * walk.step_count + step
        fetches.append(tirx.IfThenElse(turn, tirx.Evaluate(_prefetch(source, panel + line * LINE)), None))
    return fetches


def _weight_loads(loop: tirx.For) -> list[TensorLoad]:
    """The vectors read in ``loop`` that move with it, each once."""
    loads: list[TensorLoad] = []

    def visit(load: TensorLoad) -> None:
        index = load.indices[-1]
        if isinstance(index, tirx.Ramp) and depends_on(index.base, [loop.loop_var]) and not _known(load, loads):
            loads.append(load)

    tvm_ffi.structural_walk(loop.body, (TensorLoad, visit))
    return loads


def _known(load: TensorLoad, loads: list[TensorLoad]) -> bool:
    return any(load.source.same_as(o.source) and tvm_ffi.structural_equal(load.indices, o.indices) for o in loads)


def _first(loads: list[TensorLoad]) -> TensorLoad:
    """The load of the lowest address."""
    analyzer = Analyzer()
    origin = loads[0].indices[-1].base
    offsets = [as_int(analyzer.simplify(load.indices[-1].base - origin)) or 0 for load in loads]
    return loads[offsets.index(min(offsets))]


def _walk(loops: list[tirx.For], loads: list[TensorLoad], lines: int) -> _Walk:
    remaining = list(loops)
    steps = [remaining.pop()]
    while remaining and _product(steps) * len(loads) < lines and as_int(remaining[-1].extent) is not None:
        steps.insert(0, remaining.pop())
    passes: list[tirx.For] = []
    open_passes: list[tirx.For] = []
    while remaining and not any(depends_on(load.indices[-1].base, [remaining[-1].loop_var]) for load in loads):
        loop = remaining.pop()
        (open_passes if open_passes or as_int(loop.extent) is None else passes).insert(0, loop)
    return _Walk(steps, passes, open_passes)


def _product(loops: list[tirx.For]) -> int:
    count = 1
    for loop in loops:
        count *= int(loop.extent)
    return count


def _position(loops: list[tirx.For], like: Any) -> Any:
    """Iterations of ``loops`` done so far, of the type of ``like``."""
    position: Any = tirx.const(0, like.ty)
    for loop in loops:
        position = position * loop.extent + (loop.loop_var - loop.min)
    return position


def _value(values: dict[Any, Any], variable: Any) -> Any:
    return next((value for known, value in values.items() if known.same_as(variable)), variable)


def _prefetch(source: Any, index: Any) -> Any:
    address = tirx.address_of(tirx.BufferLoad(source, [index]))
    flags = [tirx.const(number, "int32") for number in (0, 2, 1)]  # to read, into the second-level cache, data
    return tirx.call_intrin("void", "tirx.prefetch", address, *flags)
