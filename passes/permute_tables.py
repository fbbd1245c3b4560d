"""Lookups in a table of 64 words, 16 lanes at once: out of four registers instead of 16 loads.

``vpermi2d`` picks each lane's word among the 32 of two registers by the lower five bits of its index; the sixth says
which pair of registers has it. Wants AVX-512.

``permute_tables`` marks the functions that may use it; ``expand_lookups`` does it in the lowering pipeline, once there
are vectors.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from ..schedules.blocks import as_int
from ..targets import Target

MARK = "kiln.permute_tables"
WORDS, LANES = 64, 16
PERMUTE = "llvm.x86.avx512.vpermi2var.d.512"


def permute_tables(mod: tvm.IRModule, target: Target) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many functions have tables that are looked up in registers."""
    if target.is_gpu or target.isa.architecture != "x86_64" or target.vector_lanes != LANES:
        return mod, 0
    result, count = mod.clone(), 0
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc) and any(map(_is_table, function.params)):
            result.update_func(gv, function.with_attr(MARK, True))
            count += 1
    return result, count


def _is_table(buffer: Any) -> bool:
    """A parameter with the shape of a table; any vector-indexed load from one may be a permutation."""
    ty = buffer.ty
    shape = getattr(ty, "shape", None)
    return shape is not None and str(ty.dtype) == "int32" and [as_int(dim) for dim in shape] == [WORDS]


def expand_lookups() -> tvm.transform.Pass:
    """The pass, after vectorisation."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.expand_lookups")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        if not function.attrs or MARK not in function.attrs:
            return function
        return tvm_ffi.structural_map(function, (TensorLoad, _permuted)).without_attr(MARK)

    return run


def _permuted(load: TensorLoad) -> Any:
    index = load.indices[-1]
    if str(load.ty.dtype) != f"int32x{LANES}" or isinstance(index, (tirx.Ramp, tirx.Broadcast)):
        return load
    if [as_int(dim) for dim in load.source.shape] != [WORDS]:
        return load
    chosen = tirx.Var("chosen", f"int32x{LANES}")
    parts = [tirx.BufferLoad(load.source, [tirx.Ramp(part, 1, LANES)]) for part in range(0, WORDS, LANES)]
    low, high = _choose(parts[0], chosen, parts[1]), _choose(parts[2], chosen, parts[3])
    upper = chosen >= tirx.Broadcast(tirx.const(WORDS // 2, "int32"), LANES)
    return tirx.Let(chosen, index.astype(f"int32x{LANES}"), tirx.Select(upper, high, low))


def _choose(first: Any, index: Any, second: Any) -> Any:
    return tirx.call_llvm_pure_intrin(f"int32x{LANES}", PERMUTE, first, index, second)
