"""Reading a scheduled function: its blocks, what they iterate over, how they access memory."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

TEMPLATE_KEY = "kiln.template"
"""Block annotation: the name of the template that a tensor expression was written for."""

PEEL_KEY = "kiln.peel_borders"
"""Loop annotation: ``passes/peel_borders.py`` is to keep conditions out of the middle of the loop."""

TAIL_KEY = "kiln.tail"
"""Loop annotation: an iteration is a vector of this many elements, the last one guarded (``passes.peel_tails``)."""

PREFETCH_KEY = "kiln.prefetch"
"""Loop annotation: so many iterations ahead are the weights fetched that its body reads (``prefetch_weights``)."""

MEMORY_SCOPE = "global.memory"
"""Storage scope of scratch that stays in memory (``passes.keep_on_stack``), where LLVM would rather have registers."""


def as_int(expr: Any) -> int | None:
    """The Python int that an expression is, or None."""
    if isinstance(expr, int):
        return expr
    return int(expr.value) if isinstance(expr, tirx.IntImm) else None


def all_blocks(schedule: Schedule) -> list[SBlockRV]:
    """The blocks below the root, in program order."""
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def is_spatial(schedule: Schedule, block: SBlockRV) -> bool:
    """Whether every iteration of the block writes an element of its own (no reduction)."""
    return all(var.iter_type == tirx.IterVar.DataPar for var in schedule.get(block).iter_vars)


def split_loops(schedule: Schedule, block: SBlockRV) -> tuple[list[Any], list[Any]]:
    """(spatial loops, reduction loops) of a block whose loops map one to one to its iteration variables."""
    spatial: list[Any] = []
    reduction: list[Any] = []
    for loop, var in zip(schedule.get_loops(block), schedule.get(block).iter_vars, strict=True):
        (spatial if var.iter_type == tirx.IterVar.DataPar else reduction).append(loop)
    return spatial, reduction


def extent(schedule: Schedule, loop: Any) -> int | None:
    """A loop's number of iterations, None where symbolic."""
    return as_int(schedule.get(loop).extent)


def annotation(schedule: Schedule, block: SBlockRV, key: str) -> Any:
    return schedule.get(block).annotations.get(key, None)


def anchor_of(schedule: Schedule) -> tuple[SBlockRV, str] | None:
    """The block that carries a template's name, and that name; None for a function without one."""
    for block in all_blocks(schedule):
        name = annotation(schedule, block, TEMPLATE_KEY)
        if name is not None:
            return block, str(name)
    return None


def uses_expensive_maths(schedule: Schedule, block: SBlockRV) -> bool:
    """Whether computing an element twice would be dear: transcendental calls and floating-point divisions."""
    found = False

    def visit_call(node: tvm.ir.Call) -> None:
        nonlocal found
        found = found or (isinstance(node.op, tvm.ir.Op) and node.op.name.split(".")[-1] in _EXPENSIVE)

    def visit_division(node: tirx.Div) -> None:
        nonlocal found
        found = found or str(node.ty.dtype).startswith(("float", "bfloat"))

    tvm_ffi.structural_walk(schedule.get(block).body, [(tvm.ir.Call, visit_call), (tirx.Div, visit_division)])
    return found


_EXPENSIVE = {
    "exp", "exp2", "exp10", "log", "log2", "log10", "log1p", "tanh", "erf", "sigmoid", "pow", "sqrt", "rsqrt",
    "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2",
}  # fmt: skip


def depends_on(expr: Any, variables: list[Any]) -> bool:
    """Whether any of ``variables`` occurs in ``expr``."""
    found = False

    def visit(node: Any) -> None:
        nonlocal found
        found = found or any(node.same_as(var) for var in variables)

    tvm_ffi.structural_walk(expr, (tvm.ir.Var, visit), order="post")
    return found
