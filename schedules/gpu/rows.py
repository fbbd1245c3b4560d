"""Which reductions dlight's rule for rows is good for: softmax, normalisations, not windows over an image."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..blocks import all_blocks, is_spatial


def reduces_rows(function: tirx.PrimFunc) -> bool:
    """Whether every reduction reads its operands at plain variables: a window's index is a sum of two."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    return not any(
        _reads_windows(schedule, block) for block in all_blocks(schedule) if not is_spatial(schedule, block)
    )


def _reads_windows(schedule: Schedule, block: SBlockRV) -> bool:
    own = [iteration.var for iteration in schedule.get(block).iter_vars]
    for region in schedule.get(block).reads:
        for place in region.region:
            if _count(place.min, own) > 1:
                return True
    return False


def _count(index: tvm.ir.Expr, variables: list[tirx.Var]) -> int:
    found: list[tirx.Var] = []

    def visit(variable: tirx.Var) -> None:
        if any(variable.same_as(one) for one in variables) and not any(variable.same_as(one) for one in found):
            found.append(variable)

    tvm_ffi.structural_walk(index, (tvm.ir.Var, visit), order="post")
    return len(found)
