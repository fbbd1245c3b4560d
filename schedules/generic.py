"""The rule for every function that no template matches: inline what is cheap, then parallelise and vectorise.

Each block becomes a loop nest of its own. The innermost spatial loop is split into vectors with its tail peeled, the
outer loops run in parallel, and a reduction keeps a vector of accumulators in registers.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError
from tvm.s_tir.stmt import SBlockRealize

from .blocks import TAIL_KEY, all_blocks, as_int, depends_on, extent, is_spatial, split_loops, uses_expensive_maths
from .windows import is_window, schedule_window

PARALLEL_MIN_WORK = 1 << 14
"""Elements: below it starting the thread pool costs more than a second core saves."""

MOST_LOADS = 32
"""Reads of memory in one element's expression: an expression past it is not made longer by repeating parts."""

_FEW_VECTORS = 4
"""Below so many vectors in a row their tail is a large part of the work."""

_CUT_KEY = "pragma_loop_partition_hint"


def apply_generic(schedule: Schedule, lanes: int) -> None:
    """Schedule every block of the function in place; ``lanes`` is the vector's width in fp32 elements."""
    inline_cheap(schedule)
    absorbed: set[str] = set()
    for block, name in [(block, schedule.get(block).name_hint) for block in all_blocks(schedule)]:
        if name in absorbed or not schedule.get_loops(block):  # the latter: a scalar
            continue
        spatial, reduction = split_loops(schedule, block)
        if reduction and is_window(schedule, block, spatial, reduction):
            work = _work(schedule, [*spatial, *reduction])
            absorbed |= schedule_window(schedule, block, lanes, work is None or work >= PARALLEL_MIN_WORK)
        else:
            schedule_block(schedule, block, lanes)


def inline_cheap(schedule: Schedule) -> None:
    """Inline blocks whose elements are read once, or are cheap to compute again."""
    for block in all_blocks(schedule):
        if not is_spatial(schedule, block) or not _worth_inlining(schedule, block):
            continue
        try:
            schedule.compute_inline(block)
        except ScheduleError:
            continue  # an output, or accessed in a way that can't be substituted: it stays a loop nest


def _worth_inlining(schedule: Schedule, block: SBlockRV) -> bool:
    consumers = schedule.get_consumers(block)
    if not consumers:
        return False
    if _grows(schedule, block, consumers):
        return False
    if not uses_expensive_maths(schedule, block):
        return True
    same = all(
        is_spatial(schedule, consumer) and _extents(schedule, consumer) == _extents(schedule, block)
        for consumer in consumers
    )
    return len(consumers) == 1 and same


def _grows(schedule: Schedule, block: SBlockRV, consumers: list[SBlockRV]) -> bool:
    """Whether a consumer would become long, as it reads the element at several places.

    A maximum that minds NaN reads each operand twice: a chain of them doubles with every link.
    """
    result, own = schedule.get(block).writes[0].source, len(_loads(schedule, block))
    for consumer in consumers:
        loads = _loads(schedule, consumer)
        places = sum(load.source.same_as(result) for load in loads)
        if places > 1 and len(loads) + places * own > MOST_LOADS:
            return True
    return False


def _loads(schedule: Schedule, block: SBlockRV) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(schedule.get(block).body, (tvm.ir.expr.TensorLoad, found.append), order="post")
    return found


def _extents(schedule: Schedule, block: SBlockRV) -> list[str]:
    return [str(schedule.get(loop).extent) for loop in schedule.get_loops(block)]


def schedule_block(schedule: Schedule, block: SBlockRV, lanes: int) -> None:
    """One block as its own parallel, vectorised loop nest."""
    if not schedule.get_loops(block):
        return
    spatial, reduction = split_loops(schedule, block)
    if not spatial:
        return  # a reduction to one element: its legalisation has split it into lanes already
    work = _work(schedule, [*spatial, *reduction])
    if reduction:
        _schedule_reduction(schedule, block, spatial, reduction, lanes, work)
    else:
        rows = transposed_loop(schedule, block, spatial)
        if rows is not None and (extent(schedule, spatial[-1]) or lanes) < lanes:
            # Too short for a vector: vectors are read along the other one, and their lanes stored apart.
            spatial = [*(loop for loop in spatial if loop is not rows), rows]
            schedule.reorder(*spatial)
            rows = spatial[-2]
        spatial = spatial if rows is not None else _fuse_short_tail(schedule, spatial, lanes)
        # Cut at the operator's own conditions too: where tensors are joined, where a padding ends.
        cut = _has_conditions(schedule, block, spatial[-1])
        outer = vectorize_loop(schedule, spatial[-1], lanes, cut=cut)
        if rows is not None:
            # Between vectors and their lanes: the lines that a vector gathers from serve the next iterations too.
            spatial = [loop for loop in spatial if loop is not rows]
            schedule.reorder(*spatial[:-1], *outer, rows, schedule.get_loops(block)[-1])
        parallelize(schedule, [*spatial[:-1], *outer], work)


def _schedule_reduction(
    schedule: Schedule, block: SBlockRV, spatial: list[Any], reduction: list[Any], lanes: int, work: int | None
) -> None:
    inner = spatial[-1]
    size = extent(schedule, inner)
    if size is not None and size < 2:
        parallelize(schedule, spatial, work)
        return
    outer = vectorize_loop(schedule, inner, lanes, mark=False, cut=_has_conditions(schedule, block, inner))
    vector = schedule.get_loops(block)[len(spatial) - 1 + len(outer)]
    schedule.reorder(*reduction, vector)
    schedule.vectorize(vector)
    parallelize(schedule, [*spatial[:-1], *outer], work)
    schedule.decompose_reduction(block, reduction[0])  # last: the other primitives want the block whole


def transposed_loop(schedule: Schedule, block: SBlockRV, spatial: list[Any]) -> Any | None:
    """The loop along which a block reads what lies side by side, if that isn't its innermost one: a transpose."""
    if len(spatial) < 2:
        return None
    variables = [var.var for var in schedule.get(block).iter_vars]
    last: list[Any] = []
    body = schedule.get(block).body
    tvm_ffi.structural_walk(
        body, (tvm.ir.expr.TensorLoad, lambda load: last.extend(list(load.indices)[-1:])), order="post"
    )
    if not last or any(depends_on(index, variables[-1:]) for index in last):
        return None
    # The first that a load is contiguous along, and no other: what is computed from several is no plain transpose.
    for index in last:
        along = [i for i, var in enumerate(variables[:-1]) if depends_on(index, [var])]
        if len(along) == 1 and index.same_as(variables[along[0]]):
            return None if extent(schedule, spatial[along[0]]) == 1 else spatial[along[0]]
    return None


def _fuse_short_tail(schedule: Schedule, loops: list[Any], lanes: int) -> list[Any]:
    """Fuse innermost loops while together they are shorter than a vector."""
    loops = list(loops)
    while len(loops) > 1:
        inner, outer = extent(schedule, loops[-1]), extent(schedule, loops[-2])
        if inner is None or outer is None or inner >= lanes:
            break
        loops[-2:] = [schedule.fuse(loops[-2], loops[-1])]
    return loops


def _has_conditions(schedule: Schedule, block: SBlockRV, loop: Any) -> bool:
    """Whether the block reads under a condition on an index that ``loop`` runs over, as behind padding."""
    wanted = schedule.get(block)
    found = False

    def visit(realize: SBlockRealize) -> None:
        nonlocal found
        if realize.block.name_hint == wanted.name_hint:
            bound = zip(realize.block.iter_vars, realize.iter_values, strict=True)
            variables = [var.var for var, value in bound if depends_on(value, [schedule.get(loop).loop_var])]
            found = found or (bool(variables) and _reads_under_condition_on(realize.block.body, variables))

    tvm_ffi.structural_walk(schedule.get(loop).body, (SBlockRealize, visit), order="post")
    return found


def vectorize_loop(schedule: Schedule, loop: Any, lanes: int, mark: bool = True, cut: bool = False) -> list[Any]:
    """Split off a vector and mark it (``mark``); the loops around it come back, outermost first.

    A length that is no multiple of the vector's leaves a tail, which ``passes.peel_tails`` takes out of the main loop.
    ``cut`` asks TVM to cut the loop at the conditions inside besides, where the length is known: with open sizes it
    loses guards, and then writes past the end.
    """
    size = extent(schedule, loop)
    if size is not None and size <= lanes:
        if mark and size > 1:
            schedule.vectorize(loop)
        return []
    if size is not None and size < _FEW_VECTORS * lanes:
        # Of 24 elements one vector of 16 would leave as many as 8 to the tail, one by one.
        lanes = next((part for part in (lanes, lanes // 2) if part >= 4 and size % part == 0), lanes)
    outer, vector = schedule.split(loop, [None, lanes])
    if size is None or size % lanes:
        schedule.annotate(outer, TAIL_KEY, lanes)
    if cut and size is not None:
        schedule.annotate(outer, _CUT_KEY, 1)
    if mark:
        schedule.vectorize(vector)
    return [outer]


def parallelize(schedule: Schedule, loops: list[Any], work: int | None) -> None:
    """Run the outermost loops in parallel: as few of them as give both cores enough to share.

    More fused loops would mean a division for each iteration to find the indices again.
    """
    # Loops with a tail to peel can't be fused.
    loops = [loop for loop in loops if not {TAIL_KEY, _CUT_KEY} & set(schedule.get(loop).annotations)] or loops
    if not loops or (work is not None and work < PARALLEL_MIN_WORK):
        return
    count, known = 0, 1
    for loop in loops:
        size = extent(schedule, loop)
        count += 1
        known *= size if size is not None else 1
        if known >= 16 or (size is None and count >= 2):
            break
    fused = schedule.fuse(*loops[:count]) if count > 1 else loops[0]
    schedule.parallel(fused)


def _work(schedule: Schedule, loops: list[Any]) -> int | None:
    """Iterations in all, None where a loop is symbolic."""
    total = 1
    for loop in loops:
        size = extent(schedule, loop)
        if size is None:
            return None
        total *= size
    return total


def is_vectorized(function: tirx.PrimFunc) -> bool:
    """Whether the scheduled function leaves no long loop scalar: each innermost loop of 8 or more is a vector.

    A vector that reads under a condition which differs between its lanes becomes a scalar loop, but where its loop is
    cut at that condition.
    """
    scalar = False
    cut = 0

    def visit(loop: tirx.For, walker: Any) -> Any:
        nonlocal scalar, cut
        here = _CUT_KEY in loop.annotations
        cut += here
        result = walker.default_visit(loop)
        cut -= here
        inner: list[tirx.For] = []
        tvm_ffi.structural_walk(loop.body, (tirx.For, inner.append), order="post")
        if loop.kind == tirx.ForKind.VECTORIZED:
            scalar = scalar or (not cut and _lanes_differ(loop))
        elif not inner and loop.kind in (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL):
            size = as_int(loop.extent)
            scalar = scalar or size is None or size >= 8
        return result

    tvm_ffi.structural_visit(function.body, (tirx.For, visit))
    return not scalar


def _lanes_differ(vector: tirx.For) -> bool:
    """Whether a block in the loop reads under a condition on an index that the loop's variable is the lower part of.

    A vector that is all there is of its axis, such as the rest of a row, is no long loop.
    """
    found = False

    def visit(realize: SBlockRealize) -> None:
        nonlocal found
        bound = zip(realize.block.iter_vars, realize.iter_values, strict=True)
        lanes = [var.var for var, value in bound if _is_lower_part(vector.loop_var, value)]
        found = found or (bool(lanes) and _reads_under_condition_on(realize.block.body, lanes))

    tvm_ffi.structural_walk(vector.body, (SBlockRealize, visit), order="post")
    return found


def _is_lower_part(variable: Any, value: Any) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(value, (tvm.ir.Var, found.append), order="post")
    return any(var.same_as(variable) for var in found) and not all(var.same_as(variable) for var in found)


def _reads_under_condition_on(body: tirx.Stmt, variables: list[Any]) -> bool:
    """Not counting what is marked as likely: loops are cut there."""
    found = False

    def visit(call: tvm.ir.Call) -> None:
        nonlocal found
        if isinstance(call.op, tvm.ir.Op) and call.op.name.endswith("if_then_else"):
            condition = call.args[0]
            likely = isinstance(condition, tvm.ir.Call) and getattr(condition.op, "name", "").endswith("likely")
            found = found or (not likely and depends_on(condition, variables))

    tvm_ffi.structural_walk(body, (tvm.ir.Call, visit), order="post")
    return found
