"""The rule for what no other takes: a thread computes an element, with all that the element is a reduction of."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..blocks import all_blocks, as_int, split_loops
from ..generic import inline_cheap

THREADS = 256


def schedule_elementwise(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Each block that can't be inlined becomes a kernel. Raises ScheduleError."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    inline_cheap(schedule)
    for block in all_blocks(schedule):
        bind_block(schedule, block)
    return schedule.mod["main"]


def bind_block(schedule: Schedule, block: SBlockRV) -> None:
    """Bind the block's spatial loops, made one, to blocks of threads; its reduction stays in the thread."""
    if not schedule.get_loops(block):
        schedule.add_unit_loop(block)
    if schedule.get(block).iter_vars:
        loops, reduction = split_loops(schedule, block)
    else:
        loops, reduction = list(schedule.get_loops(block)), []
    if not loops:
        loops = [schedule.add_unit_loop(reduction[0])]
    schedule.reorder(*loops, *reduction)
    fused = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
    size = as_int(schedule.get(fused).extent)
    threads = THREADS if size is None else max(1, min(THREADS, size))
    grid, thread = schedule.split(fused, [None, threads])
    schedule.bind(grid, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if reduction:
        schedule.decompose_reduction(block, reduction[0])
