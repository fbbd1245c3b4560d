"""Keep small scratch buffers on the stack, where LLVM turns them into registers.

TVM takes every buffer of a kilobyte or more from the heap. Sums of a register tile are 1 to 2 KB: they would be stored
to memory after each multiplication, and all operands loaded again, at less than half of the speed.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from ..schedules.blocks import MEMORY_SCOPE, as_int

LIMIT = 16 * 1024
"""Bytes. Threads have stacks of megabytes, and kernels nest few buffers; larger ones are no registers anyway."""

_KEEP = "disable_lower_builtin"
"""TVM's annotation for allocations that are left to code generation, which puts them on the stack."""

_VOLATILE = "tirx.volatile"
"""TVM's annotation for buffers whose every load and store is to happen.

Of sums on two levels LLVM sees that both could be registers. There are too few for both, and those it then spills are
loaded and stored for each product: a kernel took three times as long or did not, as its register allocation fell out.
"""


def keep_on_stack() -> tvm.transform.Pass:
    """The pass, for functions at the end of lowering: buffers of known size up to ``LIMIT`` are marked."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.keep_on_stack")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, (tirx.AllocBuffer, _mark))

    return run


def _mark(statement: tirx.AllocBuffer) -> tirx.AllocBuffer:
    size = _bytes(statement.buffer)
    if not size or size > LIMIT:  # one of no elements can't be on the stack: TVM wants a size there
        return statement
    marks = {_KEEP: tirx.const(True, "bool")}
    if statement.buffer.scope() == MEMORY_SCOPE:
        marks[_VOLATILE] = tirx.const(True, "bool")
    return tirx.AllocBuffer(statement.buffer, {**statement.annotations, **marks})


def _bytes(buffer: tirx.Buffer) -> int | None:
    dtype = tvm.DataType(str(buffer.dtype))
    size = -(-dtype.bits * dtype.lanes // 8)
    for dim in buffer.shape:
        known = as_int(dim)
        if known is None:
            return None
        size *= known
    return size
