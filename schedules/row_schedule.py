"""One loop over the rows for all stages of a row-wise function, so that what a row needs stays in the nearest cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from ..targets import Target
from .blocks import all_blocks, anchor_of, annotation, extent, is_spatial, uses_expensive_maths
from .generic import PARALLEL_MIN_WORK, schedule_block, vectorize_loop
from .row_reduce import NAME, ROWS_KEY
from .template import Parameters, register

PARALLEL_STEPS = 8
"""Iterations of the parallel loop that the cores of a small machine can share evenly."""


def schedule_rows(schedule: Schedule, lanes: int) -> bool:
    """Schedule a function made of ``row_reduce`` stages and of what was fused before and behind them.

    ``lanes`` is the vector's width in float32 elements. False, and nothing done, if there are no such stages.
    """
    found = anchor_of(schedule)
    if found is None or found[1] != NAME:
        return False
    anchor = found[0]
    count = int(annotation(schedule, anchor, ROWS_KEY))
    rows = _extents(schedule, anchor)[:count]
    work = max((_size(schedule, block) for block in all_blocks(schedule)), default=0)
    _inline_bystanders(schedule, anchor)
    output, behind = _inline_epilogue(schedule, anchor)
    apart = _inline_prologue(schedule, rows, {schedule.get(block).name_hint for block in behind})
    names = {schedule.get(block).name_hint for block in [output, *behind, *apart]}
    inner = [block for block in all_blocks(schedule) if schedule.get(block).name_hint not in names]
    loops = [schedule.get_loops(block) for block in [*inner, output]]
    if inner:
        schedule.merge(*[nest[count - 1] for nest in loops])
    outer = _split_rows(schedule, schedule.get_loops(output)[:count])
    reductions = [_vectorize_stage(schedule, block, count, lanes) for block in [*inner, output]]
    if work >= PARALLEL_MIN_WORK:
        schedule.parallel(outer)
    for block, loop in zip([*inner, output], reductions, strict=True):
        if loop is not None:
            schedule.decompose_reduction(block, loop)  # last: the other primitives want the block whole
    for block in [*apart, *behind]:
        schedule_block(schedule, block, lanes)
    return True


def _extents(schedule: Schedule, block: SBlockRV) -> list[str]:
    return [str(schedule.get(loop).extent) for loop in schedule.get_loops(block)]


def _size(schedule: Schedule, block: SBlockRV) -> float:
    """Iterations of a block; infinite where one of its loops is symbolic."""
    total = 1.0
    for loop in schedule.get_loops(block):
        known = extent(schedule, loop)
        total *= float("inf") if known is None else known
    return total


def _inline_bystanders(schedule: Schedule, anchor: SBlockRV) -> None:
    """Inlines what was fused behind without reading the result: a mask that is prepared and then applied to it."""
    blocks = all_blocks(schedule)
    names = [schedule.get(block).name_hint for block in blocks]
    first = names.index(schedule.get(anchor).name_hint)
    reading, fresh = {names[first]}, [anchor]
    while fresh:
        found = list(schedule.get_consumers(fresh.pop()))
        fresh += [block for block in found if schedule.get(block).name_hint not in reading]
        reading |= {schedule.get(block).name_hint for block in found}
    for block, name in zip(blocks[first:], names[first:], strict=True):
        if name not in reading and is_spatial(schedule, block):
            _try_inline(schedule, block)


def _inline_epilogue(schedule: Schedule, anchor: SBlockRV) -> tuple[SBlockRV, list[SBlockRV]]:
    """(the stage that writes the result, blocks that have to run as loops of their own after it)."""
    blocks = all_blocks(schedule)
    names = [schedule.get(block).name_hint for block in blocks]
    behind = blocks[names.index(schedule.get(anchor).name_hint) + 1 :]
    if not behind or any(_extents(schedule, block) != _extents(schedule, anchor) for block in behind):
        return anchor, behind
    for block in [anchor, *behind[:-1]]:
        _try_inline(schedule, block)
    return behind[-1], []


def _inline_prologue(schedule: Schedule, rows: list[str], behind: set[str]) -> list[SBlockRV]:
    """Inlines what was fused in front; gives back what neither can be inlined nor has the rows' shape.

    Blocks whose names are in ``behind`` run after the rows and are left alone.
    """
    apart = []
    for block in all_blocks(schedule):
        consumers = schedule.get_consumers(block)
        if annotation(schedule, block, ROWS_KEY) is not None or not consumers:
            continue
        if schedule.get(block).name_hint in behind:
            continue
        spatial = is_spatial(schedule, block)
        twice = len(consumers) > 1 and uses_expensive_maths(schedule, block)
        inlined = spatial and not twice and _try_inline(schedule, block)
        if not inlined and not (spatial and _extents(schedule, block)[: len(rows)] == rows):
            apart.append(block)
    return apart


def _try_inline(schedule: Schedule, block: SBlockRV) -> bool:
    try:
        schedule.compute_inline(block)
    except ScheduleError:
        return False  # an output of the function
    return True


def _split_rows(schedule: Schedule, loops: list[Any]) -> Any:
    """The loop to run in parallel, around another one over rows unless those are few.

    Whatever scratch memory the stages need is allocated once for each iteration of the outer loop.
    """
    known, count = 1, 0
    for loop in loops:
        count += 1
        known *= extent(schedule, loop) or 1
        if known >= PARALLEL_STEPS:
            break
    outer = schedule.fuse(*loops[:count]) if count > 1 else loops[0]
    total = extent(schedule, outer)
    if count < len(loops) or total is None:
        return outer
    chunk = max((n for n in range(2, 17) if total % n == 0 and total // n >= PARALLEL_STEPS), default=None)
    return outer if chunk is None else schedule.split(outer, [None, chunk])[0]


def _vectorize_stage(schedule: Schedule, block: SBlockRV, rows: int, lanes: int) -> Any | None:
    """Vectorise a stage along its lanes or along the row; a reduction's lanes go inside the loop that comes back."""
    own = list(schedule.get(block).iter_vars)[rows:]
    loops = schedule.get_loops(block)[-len(own) :] if own else []
    spatial = [loop for loop, var in zip(loops, own, strict=True) if var.iter_type == tirx.IterVar.DataPar]
    reduction = [loop for loop in loops if not any(loop.same_as(other) for other in spatial)]
    if reduction:
        schedule.reorder(*reduction, *spatial)
        for loop in spatial:
            schedule.vectorize(loop)
        return reduction[0]
    if spatial:
        # Of 64-bit elements a register holds half as many; the guard of a last vector stands at such a boundary.
        if str(schedule.get(block).writes[0].source.dtype).endswith("64"):
            lanes //= 2
        vectorize_loop(schedule, spatial[-1], lanes)
    return None


class RowReduce:
    """No parameters: what could be chosen is part of the expression."""

    name = NAME
    version = 1

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        return {}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        return {}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        schedule_rows(schedule, target.vector_lanes)


register(RowReduce())
