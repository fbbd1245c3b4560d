"""Functions that were written as loops run in one thread of the GPU: slow, but where the data is."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.stmt import SBlockRealize

from ..blocks import all_blocks


def bind_opaque(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Wrap the whole body into one block of one thread; what lies between its blocks becomes the thread's own."""
    if isinstance(function.body, SBlockRealize) and function.body.block.alloc_buffers:
        function = _keep_local(function)
    return function.with_body(bind_single_thread(function.body))


def bind_single_thread(body: tirx.Stmt) -> tirx.Stmt:
    """``body`` in a loop over one block and a loop over its one thread."""
    for tag in ("threadIdx.x", "blockIdx.x"):
        variable = tirx.Var(tag.replace(".", "_"), "int32")
        thread = tirx.IterVar(None, tirx.Var(tag, "int32"), tirx.IterVar.ThreadIndex, tag)
        body = tirx.For(variable, 0, 1, tirx.ForKind.THREAD_BINDING, body, thread)
    return body


def _keep_local(function: tirx.PrimFunc) -> tirx.PrimFunc:
    schedule = Schedule(tvm.IRModule({"main": function}))
    between = {buffer.name for buffer in function.body.block.alloc_buffers}
    for block in all_blocks(schedule):
        for index, region in enumerate(schedule.get(block).writes):
            if region.source.name in between:
                schedule.set_scope(block, index, "local")
    return schedule.mod["main"]
