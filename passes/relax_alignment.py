"""Let compiled functions assume no more of their arguments than an element's alignment.

Inputs come from NumPy at any address, outputs and views of them too. TVM assumes 64 bytes of every buffer and would
emit aligned vector moves, which fault elsewhere; unaligned moves cost nothing on data that happens to be aligned.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx


def relax_alignment(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module with each function's buffer parameters aligned to their element size, and their number."""
    result, count = mod.clone(), 0
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc):
            result.update_func(gv, _relaxed(function))
            count += 1
    return result, count


def _relaxed(function: tirx.PrimFunc) -> tirx.PrimFunc:
    replaced = {param: _aligned(param) for param in function.params if tirx.is_buffer_var(param)}
    return tvm_ffi.structural_map(function, (tvm.ir.Var, lambda var: replaced.get(var, var)), order="pre")


def _aligned(buffer: tirx.Buffer) -> tirx.Buffer:
    size = max(1, tvm.DataType(str(buffer.dtype)).bits // 8)
    return tirx.decl_buffer(
        buffer.shape,
        buffer.dtype,
        buffer.name,
        strides=buffer.strides,
        elem_offset=buffer.elem_offset,
        data_alignment=size,
        offset_factor=buffer.offset_factor,
        layout=buffer.layout,
    )
