"""Keep TVM from simplifying floating-point sums as if they were exact.

Its simplifier cancels what is subtracted from itself: ``x - x`` would be 0 for infinities and NaN too, and
``(x + 2**23) - 2**23``, which rounds, would be ``x``. An operand behind ``reinterpret`` to its own type equals no other
term; in machine code that is nothing.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx


def keep_rounding() -> tvm.transform.Pass:
    """The pass, for functions before anything simplifies their expressions."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.keep_rounding")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, [(tirx.Sub, _subtraction), (tirx.Add, _addition)])

    return run


def _subtraction(node: tirx.Sub) -> Any:
    return tirx.Sub(node.a, _apart(node.b)) if _is_float(node) else node


def _addition(node: tirx.Add) -> Any:
    """A constant added to a sum: TVM would add it to the sum's own constant first."""
    sums = isinstance(node.a, (tirx.Add, tirx.Sub)) and isinstance(node.b, tirx.FloatImm)
    return tirx.Add(node.a, _apart(node.b)) if sums and _is_float(node) else node


def _is_float(node: Any) -> bool:
    """Not bfloat16: TVM turns its operands into float32, and then finds a reinterpretation of another size."""
    return str(node.ty.dtype).startswith("float")


def _apart(operand: Any) -> Any:
    return tirx.call_intrin(str(operand.ty.dtype), "tirx.reinterpret", operand)
