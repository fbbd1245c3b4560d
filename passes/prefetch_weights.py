"""Fetch packed weights from memory ahead of their use.

A kernel with few pixels uses each weight a few times only, so it waits for memory. The processor's own prefetcher stops
at the end of each 4 KiB page; where the weights are read in the order in which they lie, a fetch of what comes next
runs across.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from ..schedules.blocks import PREFETCH_KEY, depends_on


def prefetch_weights() -> tvm.transform.Pass:
    """The pass for unrolled and vectorised functions: one fetch per weight vector that a marked loop's body reads."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.prefetch_weights")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, (tirx.For, _ahead))

    return run


def _ahead(loop: tirx.For) -> tirx.For:
    if PREFETCH_KEY not in loop.annotations:
        return loop
    distance = int(loop.annotations[PREFETCH_KEY])
    loads: list[TensorLoad] = []

    def visit(load: TensorLoad) -> None:
        index = load.indices[-1]
        if isinstance(index, tirx.Ramp) and depends_on(index.base, [loop.loop_var]) and not _known(load, loads):
            loads.append(load)

    tvm_ffi.structural_walk(loop.body, (TensorLoad, visit))
    annotations = {key: value for key, value in loop.annotations.items() if key != PREFETCH_KEY}
    fetches = [tirx.Evaluate(_prefetch(load, loop.loop_var, distance)) for load in loads]
    body = tirx.SeqStmt([*fetches, loop.body]) if fetches else loop.body
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, annotations=annotations)


def _known(load: TensorLoad, loads: list[TensorLoad]) -> bool:
    return any(load.source.same_as(o.source) and tvm_ffi.structural_equal(load.indices, o.indices) for o in loads)


def _prefetch(load: TensorLoad, variable: Any, distance: int) -> Any:
    later = variable + tirx.const(distance, variable.ty)
    base = tvm_ffi.structural_map(load.indices[-1].base, (tvm.ir.Var, lambda v: later if v.same_as(variable) else v))
    address = tirx.address_of(tirx.BufferLoad(load.source, [base]))
    flags = [tirx.const(number, "int32") for number in (0, 3, 1)]  # to read, into every cache, data
    return tirx.call_intrin("void", "tirx.prefetch", address, *flags)
