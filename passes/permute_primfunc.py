"""Permute the dims of a kernel's buffers, keeping what it computes for each element."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError


def permute_primfunc(function: tirx.PrimFunc, which: Sequence[bool], order: Sequence[int]) -> tirx.PrimFunc | None:
    """``function`` with those buffer parameters that ``which`` marks transposed by ``order``.

    Only single-block kernels are taken (elementwise, broadcast, gather-like, windows: what tensor expressions of one
    stage give); the loops are reordered to run along the result. None where that can't be done.
    """
    buffers = [param for param in function.params if isinstance(param.ty, tirx.BufferType)]
    if len(buffers) != len(which):
        return None
    schedule = Schedule(tvm.IRModule({"main": function}))
    try:
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    except ScheduleError:  # loops written out, without a block around them
        return None
    if len(blocks) != 1:
        return None
    block = schedule.get(blocks[0])
    kinds = [var.iter_type for var in block.iter_vars]
    if kinds != [tirx.IterVar.DataPar] * len(order) + [tirx.IterVar.CommReduce] * (len(kinds) - len(order)):
        return None
    whole = [*order, *range(len(order), len(kinds))]
    marked = [buffer for buffer, mark in zip(buffers, which, strict=True) if mark]
    try:
        for kind, regions in (("read", block.reads), ("write", block.writes)):
            for index, region in enumerate(regions):
                if any(region.source.same_as(buffer) for buffer in marked):
                    schedule.transform_layout(blocks[0], (kind, index), lambda *dims: [dims[i] for i in order])
        # The block's own order too: loops that a schedule makes anew come in it.
        moved = tirx.IndexMap.from_func(lambda *dims: [dims[i] for i in whole], ndim=len(whole))
        schedule.transform_block_layout(blocks[0], moved)
    except ScheduleError:
        return None
    return schedule.mod["main"].without_attr("global_symbol")
