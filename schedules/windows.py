"""Reductions over a small window for vectors of results side by side: pools of channels-last tensors, mostly.

Running results stay in a register until the window is done. Elements that padding stands for are skipped in branches,
which ``passes/peel_borders.py`` keeps out of the middle of a row.
"""

from __future__ import annotations

import math
from typing import Any

import tvm_ffi
from tvm.error import InternalError
from tvm.ir import Call
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from .blocks import PEEL_KEY, TAIL_KEY, depends_on, extent, is_spatial

LARGEST_WINDOW = 128
"""Elements: a window's columns are unrolled."""
UNROLLED = 16
"""Elements of a window along one axis only, up to which it is unrolled."""


def is_window(schedule: Schedule, block: SBlockRV, spatial: list[Any], reduction: list[Any]) -> bool:
    """Whether few elements are reduced, and none of them is chosen by a result's place along the last axis."""
    sizes = [extent(schedule, loop) for loop in reduction]
    if len(spatial) < 2 or None in sizes or math.prod(size or 0 for size in sizes) > LARGEST_WINDOW:
        return False
    last = schedule.get(block).iter_vars[len(spatial) - 1].var
    return (extent(schedule, spatial[-1]) or 2) > 1 and not _is_conditional(schedule.get(block).body, last)


def schedule_window(schedule: Schedule, block: SBlockRV, lanes: int, parallel: bool) -> set[str]:
    """The block and the one that takes its results, as one loop nest; the latter's name comes back if it went in."""
    loops = schedule.get_loops(block)
    axes = sum(var.iter_type == 0 for var in schedule.get(block).iter_vars)
    consumers = schedule.get_consumers(block)
    output = schedule.cache_write(block, 0, "global")
    absorbed: set[str] = set()
    if len(consumers) == 1 and is_spatial(schedule, consumers[0]):
        name = schedule.get(consumers[0]).name_hint
        try:
            schedule.reverse_compute_inline(consumers[0])
            absorbed.add(name)
        except (ScheduleError, InternalError):
            pass  # reads other elements than those of its own place, or the row along another axis too (softmax)
    spatial, reduction = loops[:axes], loops[axes:]
    size = extent(schedule, spatial[-1])
    lanes = next((n for n in (lanes, lanes // 2, lanes // 4) if size and n and size % n == 0), lanes)
    vectors, lane = schedule.split(spatial[-1], [None, lanes])
    schedule.reorder(*spatial[:-1], vectors, *reduction, lane)
    schedule.reverse_compute_at(output, vectors)
    if size is None or size % lanes:
        schedule.annotate(vectors, TAIL_KEY, lanes)
    schedule.annotate(spatial[-2], PEEL_KEY, True)
    schedule.vectorize(schedule.get_loops(output)[-1])
    schedule.vectorize(lane)
    if len(reduction) > 1 or (extent(schedule, reduction[0]) or 0) <= UNROLLED:
        schedule.unroll(reduction[-1])  # rows stay a loop: those outside are skipped in one branch
    if parallel and len(spatial) > 2:
        schedule.parallel(schedule.fuse(*spatial[:-2]) if len(spatial) > 3 else spatial[0])
    schedule.decompose_reduction(block, reduction[0])
    return absorbed


def _is_conditional(body: Any, variable: Any) -> bool:
    """Whether a condition in ``body`` depends on ``variable``."""
    found = False

    def visit(call: Call) -> None:
        nonlocal found
        if str(getattr(call.op, "name", "")).endswith("if_then_else"):
            found = found or depends_on(call.args[0], [variable])

    tvm_ffi.structural_walk(body, (Call, visit), order="post")
    return found
