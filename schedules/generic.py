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

from .blocks import all_blocks, as_int, depends_on, extent, is_spatial, split_loops, uses_expensive_maths

PARALLEL_MIN_WORK = 1 << 14
"""Elements: below it starting the thread pool costs more than a second core saves."""

_PARTITION = "pragma_loop_partition_hint"


def apply_generic(schedule: Schedule, lanes: int) -> None:
    """Schedule every block of the function in place; ``lanes`` is the vector's width in fp32 elements."""
    inline_cheap(schedule)
    for block in all_blocks(schedule):
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
    if not uses_expensive_maths(schedule, block):
        return True
    same = all(
        is_spatial(schedule, consumer) and _extents(schedule, consumer) == _extents(schedule, block)
        for consumer in consumers
    )
    return len(consumers) == 1 and same


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
        spatial = _fuse_short_tail(schedule, spatial, lanes)
        # Between two conditions on an open size, TVM's partition leaves a part of the loop unguarded: it writes past
        # the end (three tensors joined along their last axis).
        peel = extent(schedule, spatial[-1]) is not None or not _has_conditions(schedule, block)
        outer = vectorize_loop(schedule, spatial[-1], lanes, peel=peel)
        parallelize(schedule, [*spatial[:-1], *outer], work)


def _schedule_reduction(
    schedule: Schedule, block: SBlockRV, spatial: list[Any], reduction: list[Any], lanes: int, work: int | None
) -> None:
    inner = spatial[-1]
    size = extent(schedule, inner)
    if size is not None and size < 2:
        parallelize(schedule, spatial, work)
        return
    outer = vectorize_loop(schedule, inner, lanes, mark=False, peel=not _has_conditions(schedule, block))
    vector = schedule.get_loops(block)[len(spatial) - 1 + len(outer)]
    schedule.reorder(*reduction, vector)
    schedule.vectorize(vector)
    parallelize(schedule, [*spatial[:-1], *outer], work)
    schedule.decompose_reduction(block, reduction[0])  # last: the other primitives want the block whole


def _fuse_short_tail(schedule: Schedule, loops: list[Any], lanes: int) -> list[Any]:
    """Fuse innermost loops while together they are shorter than a vector."""
    loops = list(loops)
    while len(loops) > 1:
        inner, outer = extent(schedule, loops[-1]), extent(schedule, loops[-2])
        if inner is None or outer is None or inner >= lanes:
            break
        loops[-2:] = [schedule.fuse(loops[-2], loops[-1])]
    return loops


def _has_conditions(schedule: Schedule, block: SBlockRV) -> bool:
    """Whether elements are read under a condition on the innermost spatial index, as behind padding.

    Peeling would cut the loop at that condition too, and TVM then loses the guard of the sum's initial value: it
    writes whole vectors past the end of a row.
    """
    found = False
    inner = [var.var for var in schedule.get(block).iter_vars if var.iter_type == tirx.IterVar.DataPar][-1]

    def visit(call: tvm.ir.Call) -> None:
        nonlocal found
        if isinstance(call.op, tvm.ir.Op) and call.op.name.endswith("if_then_else"):
            found = found or depends_on(call.args[0], [inner])

    tvm_ffi.structural_walk(schedule.get(block).body, (tvm.ir.Call, visit))
    return found


def vectorize_loop(schedule: Schedule, loop: Any, lanes: int, mark: bool = True, peel: bool = True) -> list[Any]:
    """Split off a vector and mark it (``mark``); the loops around it come back, outermost first.

    A length that is no multiple of the vector's leaves a tail, which the partition hint peels off the main loop
    (``peel``); else every element is guarded.
    """
    size = extent(schedule, loop)
    if size is not None and size <= lanes:
        if mark and size > 1:
            schedule.vectorize(loop)
        return []
    outer, vector = schedule.split(loop, [None, lanes])
    if peel and (size is None or size % lanes):
        schedule.annotate(outer, _PARTITION, 1)
    if mark:
        schedule.vectorize(vector)
    return [outer]


def parallelize(schedule: Schedule, loops: list[Any], work: int | None) -> None:
    """Run the outermost loops in parallel: as few of them as give both cores enough to share.

    More fused loops would mean a division for each iteration to find the indices again.
    """
    # Loops with a tail to peel can't be fused.
    loops = [loop for loop in loops if _PARTITION not in schedule.get(loop).annotations] or loops
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
    """Whether the scheduled function leaves no long loop scalar: each innermost loop of 8 or more is a vector."""
    scalar = False

    def visit(loop: tirx.For) -> None:
        nonlocal scalar
        inner: list[tirx.For] = []
        tvm_ffi.structural_walk(loop.body, (tirx.For, inner.append), order="post")
        if inner or loop.kind == tirx.ForKind.VECTORIZED:
            return
        size = as_int(loop.extent)
        scalar = scalar or ((size is None or size >= 8) and loop.kind in (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL))

    tvm_ffi.structural_walk(function.body, (tirx.For, visit), order="post")
    return not scalar


