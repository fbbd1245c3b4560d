"""Broadcast 16- and 8-bit floats as integers of their width.

``BF16StorageLegalize`` and ``FP8StorageLegalize`` turn loads and stores into integers, but leave a vector that repeats
one element as it is; the store of such a vector then has two types.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx


def carry_broadcasts() -> tvm.transform.Pass:
    """The pass that goes behind vectorisation and before the floats are legalised."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.carry_broadcasts")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, [(tirx.Broadcast, _carried)])

    return run


def _carried(vector: tirx.Broadcast) -> Any:
    dtype = str(vector.value.ty.dtype)
    if dtype != "bfloat16" and not dtype.startswith("float8"):
        return vector
    integer = "uint16" if dtype == "bfloat16" else "uint8"
    bits = tirx.reinterpret(integer, vector.value)
    return tirx.reinterpret(f"{dtype}x{int(vector.lanes)}", tirx.Broadcast(bits, vector.lanes))
