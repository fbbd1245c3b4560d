"""Replace calls of elementary functions in kernels by arithmetic that LLVM vectorises.

TVM lowers ``exp`` and its kin to one library call per element, 2 to 8 ns each, also inside vectorised loops.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from ..schedules.vector_math import FUNCTIONS, power


def vectorize_math(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many calls were replaced; scheduled and unscheduled PrimFuncs both serve.

    float32 calls are replaced; float16 and bfloat16 ones are computed in float32; float64 ones stay.
    """
    # TVM's legalisation of bfloat16 doesn't look into the bindings that replacements consist of: it has to come first.
    mod = tirx.transform.BF16ComputeLegalize()(mod)
    count = 0

    def rewrite(call: tvm.ir.Call) -> Any:
        nonlocal count
        replacement = _replacement(call)
        count += replacement is not None
        return call if replacement is None else replacement

    result = mod.clone()
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc):
            before = count
            rewritten = tvm_ffi.structural_map(function, (tvm.ir.Call, rewrite))
            if count > before:
                result.update_func(gv, rewritten)
    return result, count


def _replacement(call: tvm.ir.Call) -> Any | None:
    if not isinstance(call.op, tvm.ir.Op):
        return None
    dialect, _, name = call.op.name.rpartition(".")
    if dialect not in ("tirx", "prim") or (name not in FUNCTIONS and name != "pow"):
        return None
    dtype = str(call.ty.dtype)
    if dtype not in ("float32", "float16"):
        return None
    x = call.args[0] if dtype == "float32" else call.args[0].astype("float32")
    if name == "pow":
        exponent = call.args[1]
        value = power(x, float(exponent.value)) if isinstance(exponent, tirx.FloatImm) else None
    else:
        value = FUNCTIONS[name](x)
    return value if value is None or dtype == "float32" else value.astype(dtype)
