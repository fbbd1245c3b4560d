"""Convolutions and matrix products for tensor cores: operands in float16, sums in float32.

With ``--precision fp16`` operands in float32 are rounded to float16: constants here and now, what is computed by the
kernel that makes it or by a pass over it. Sums and results stay in float32. Numbers past 65504 become infinities, so
constants that hold one keep their operator in float32. With any precision, products of float16 get sums in float32,
rounded once at their end. (tf32 changes no tensor: kernels round what they read.)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from ..targets import Target
from .bindings import BindingBuilder, bindings_of, relax_functions
from .constants import as_array, dtype_of, op_name
from .explanations import explain
from .widen_halves import converted, in_float32

_KERNELS = {"relax.matmul", "relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d"}
_LARGEST = float(np.finfo(np.float16).max)


def narrow_operands(mod: tvm.IRModule, target: Target) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many operators take float16 and sum in float32 now."""
    total = 0
    for name in relax_functions(mod):
        mod, count = _narrow(mod, name, target.precision == "fp16")
        total += count
    return mod, total


def _narrow(mod: tvm.IRModule, name: str, rounds: bool) -> tuple[tvm.IRModule, int]:
    function = mod[name]
    build = BindingBuilder(mod, name)
    narrow: dict[relax.Expr, relax.Expr] = {}
    changed = 0
    for binding in bindings_of(function):
        call = binding.value
        kind = _operands(call) if isinstance(binding, relax.VarBinding) else ""
        if kind == "float16" and call.attrs.out_dtype != "float32":
            wide = build.emit(in_float32(call, list(call.args)))
            build.bind(binding.var, relax.op.astype(wide, dtype_of(binding.var)))
        elif kind == "float32" and rounds and _fits(call):
            operands = [converted(build, narrow, arg, "float16") for arg in call.args]
            build.bind(binding.var, in_float32(call, operands))
        else:
            build.keep(binding)
            continue
        explain(op_name(call).removeprefix("relax."), "float16 operands", True, f"its operands are {kind}")
        changed += 1
    return build.finish(function), changed


def _operands(call: relax.Expr) -> str:
    """The one type of a kernel's operands; empty for anything else."""
    if op_name(call) not in _KERNELS:
        return ""
    types = {dtype_of(arg) if isinstance(arg.ty, relax.TensorType) else "" for arg in call.args}
    return types.pop() if len(types) == 1 else ""


def _fits(call: relax.Call) -> bool:
    arrays = [array for array in map(as_array, call.args) if array is not None]
    fits = all(bool(np.all(np.abs(array[np.isfinite(array)]) <= _LARGEST)) for array in arrays)
    if not fits:
        explain(op_name(call).removeprefix("relax."), "float16 operands", False, "a constant is past 65504")
    return fits
