"""Round each bfloat16 result to bfloat16.

``BF16ComputeLegalize`` computes in float32 and rounds where a buffer is written, nowhere before: the casts of
``float32(bfloat16(x))`` vanish, and ``(x + 128) - 128`` keeps bits that bfloat16 doesn't have. Here each operation and
each cast becomes one in float32 whose bits are then rounded, half to even (IEEE 754-2019, 4.3.1); NaN stays NaN.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

_NAME = "bfloat16"
_ROUNDED = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div)
_KEPT = {"tirx.if_then_else", "tirx.reinterpret", "tirx.likely"}
"""Calls whose result is one of their operands, bit by bit."""
_QUIET_NAN = 0x7FC0


def round_bfloat16() -> tvm.transform.Pass:
    """The pass, for functions whose loops aren't vectors yet."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.round_bfloat16")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        rules = [(kind, _operation) for kind in _ROUNDED] + [(tirx.Cast, _cast), (tvm.ir.Call, _call)]
        return tvm_ffi.structural_map(function, rules)

    return run


def rounded(x: Any) -> Any:
    """A float32 scalar rounded to bfloat16."""
    bits = tirx.reinterpret("uint32", x)
    odd = tirx.bitwise_and(bits >> tirx.const(16, "uint32"), tirx.const(1, "uint32"))
    above = (bits + (tirx.const(0x7FFF, "uint32") + odd)) >> tirx.const(16, "uint32")
    nan = tirx.bitwise_and(bits, tirx.const(0x7FFFFFFF, "uint32")) > tirx.const(0x7F800000, "uint32")
    number = tirx.Select(nan, tirx.const(_QUIET_NAN, "uint16"), above.astype("uint16"))
    return tirx.reinterpret(_NAME, number)


def _operation(node: Any) -> Any:
    return rounded(type(node)(_wide(node.a), _wide(node.b))) if _is_bfloat16(node) else node


def _cast(node: tirx.Cast) -> Any:
    return rounded(_wide(node.value)) if _is_bfloat16(node) else node


def _call(node: tvm.ir.Call) -> Any:
    if not _is_bfloat16(node) or not isinstance(node.op, tvm.ir.Op) or node.op.name in _KEPT:
        return node
    operands = [_wide(arg) if _is_bfloat16(arg) else arg for arg in node.args]
    return rounded(tirx.call_intrin("float32", node.op.name, *operands))


def _wide(x: Any) -> Any:
    return x if str(x.ty.dtype) == "float32" else x.astype("float32")


def _is_bfloat16(node: Any) -> bool:
    return isinstance(getattr(node, "ty", None), tvm.ir.PrimType) and str(node.ty.dtype) == _NAME
