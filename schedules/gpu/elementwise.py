"""The rule for what no other takes: a thread computes an element, with all that the element is a reduction of."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from ..blocks import all_blocks, as_int, is_spatial, split_loops
from ..generic import inline_cheap

THREADS = 256


def schedule_elementwise(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Each block that can't be inlined becomes a kernel, reductions with what follows them. Raises ScheduleError."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    inline_cheap(schedule)
    done: set[str] = set()
    for block in all_blocks(schedule):
        name = schedule.get(block).name_hint
        if name in done:
            continue
        consumer = None if is_spatial(schedule, block) else _elementwise_consumer(schedule, block)
        if consumer is not None and _fuse(schedule, block, consumer):
            done.add(schedule.get(consumer).name_hint)
            continue
        bind_block(schedule, block)
    return schedule.mod["main"]


def bind_block(schedule: Schedule, block: SBlockRV) -> None:
    """Bind the block's spatial loops, made one, to blocks of threads; its reduction stays in the thread."""
    reduction = _bind(schedule, block)[1]
    if reduction:
        schedule.decompose_reduction(block, reduction[0])


def _bind(schedule: Schedule, block: SBlockRV) -> tuple[Any, list[Any]]:
    """The loop over a block's threads, and the loops of the reduction inside."""
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
    return thread, reduction


def _elementwise_consumer(schedule: Schedule, block: SBlockRV) -> SBlockRV | None:
    """The one block that reads the reduction's result, if it does so element by element."""
    consumers = list(schedule.get_consumers(block))
    if len(consumers) != 1 or not is_spatial(schedule, consumers[0]):
        return None
    (consumer,) = consumers
    spatial = [schedule.get(loop).extent for loop in split_loops(schedule, block)[0]]
    found = [schedule.get(loop).extent for loop in schedule.get_loops(consumer)]
    return consumer if [str(one) for one in spatial if str(one) != "1"] == _long(found) else None


def _long(extents: list[Any]) -> list[str]:
    return [str(extent) for extent in extents if str(extent) != "1"]


def _fuse(schedule: Schedule, block: SBlockRV, consumer: SBlockRV) -> bool:
    """Compute the reduction in the consumer's thread, in a register; False, and nothing changed, if that fails."""
    trial = schedule.copy()
    names = schedule.get(block).name_hint, schedule.get(consumer).name_hint
    try:
        _fuse_in_place(trial, *(trial.get_sblock(name) for name in names))
    except ScheduleError:
        return False
    _fuse_in_place(schedule, block, consumer)
    return True


def _fuse_in_place(schedule: Schedule, block: SBlockRV, consumer: SBlockRV) -> None:
    thread, _ = _bind(schedule, consumer)
    schedule.compute_at(block, thread)
    schedule.set_scope(block, 0, "local")
    around = {schedule.get(loop).loop_var for loop in schedule.get_loops(consumer)}
    inner = [loop for loop in schedule.get_loops(block) if schedule.get(loop).loop_var not in around]
    schedule.decompose_reduction(block, inner[0])
