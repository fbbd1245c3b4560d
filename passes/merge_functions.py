"""Make one function of those that are equal, and number all by the order in which they are called.

What TVM makes of open dims depends on the order of its sets, which changes from process to process: now one kernel
serves two calls, now each has its own that differs in the order of its sizes. Once the sizes are in order
(``order_scalars``), equal kernels are found here, and names say nothing of how they came about.
"""

from __future__ import annotations

import re
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from .constants import as_int
from .order_scalars import CALL_TIR


def merge_functions(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many functions equalled another one.

    Modules without open dims are left alone: there is nothing for an order to change.
    """
    names = _called(mod)
    if not any(_has_open_dims(mod[name]) for name in names):
        return mod, 0
    same = _equals(mod, names)
    kept = [name for name in names if same[name] == name]
    numbered = dict(zip(kept, _numbered(kept, {gv.name_hint for gv in mod.functions} - set(names))))
    renamed = {name: _variable(numbered[name], mod.get_global_var(name)) for name in kept}
    replaced = {name: renamed[same[name]] for name in names}
    functions: dict[Any, Any] = {}
    for gv, function in mod.functions.items():
        if gv.name_hint in replaced and same[gv.name_hint] != gv.name_hint:
            continue
        if isinstance(function, relax.Function):
            function = tvm_ffi.structural_map(
                function, (tvm.ir.GlobalVar, lambda var: replaced.get(var.name_hint, var)), order="pre"
            )
        functions[replaced.get(gv.name_hint, gv)] = function
    return tvm.IRModule(functions, attrs=mod.attrs), len(names) - len(kept)


def _variable(name: str, like: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
    var = tvm.ir.GlobalVar(name)
    relax.expr._update_type(var, like.ty)
    return var


def _called(mod: tvm.IRModule) -> list[str]:
    """Kernels and fused functions, in the order of their first call."""
    names: dict[str, None] = {}
    for function in mod.functions.values():
        if isinstance(function, relax.Function) and not _is_fused(function):
            for name in _callees(function):
                callee = mod[name]
                if isinstance(callee, tirx.PrimFunc) or _is_fused(callee):
                    names.setdefault(name)
    for name in list(names):
        if isinstance(mod[name], relax.Function):
            for inner in _callees(mod[name]):
                names.setdefault(inner)
    return list(names)


def _callees(function: relax.Function) -> list[str]:
    found: list[str] = []

    def visit(call: tvm.ir.Call) -> None:
        target = call.args[0] if call.op == CALL_TIR else call.op
        if isinstance(target, tvm.ir.GlobalVar):
            found.append(target.name_hint)

    tvm_ffi.structural_walk(function.body, (tvm.ir.Call, visit))
    return found


def _is_fused(function: Any) -> bool:
    return isinstance(function, relax.Function) and bool(function.attrs) and "Primitive" in function.attrs


def _has_open_dims(function: Any) -> bool:
    if isinstance(function, tirx.PrimFunc):
        shapes = [param.shape for param in function.params if tirx.is_buffer_var(param)]
        return any(as_int(dim) is None for shape in shapes for dim in shape)
    return any(tirx.analysis.undefined_vars(dim) for param in function.params for dim in _dims(param.ty))


def _dims(ty: relax.Type) -> list[Any]:
    if isinstance(ty, relax.ShapeType):
        return list(ty.values or [])
    return list(ty.shape.values) if isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr) else []


def _equals(mod: tvm.IRModule, names: list[str]) -> dict[str, str]:
    """For each name that of the first equal function, by content alone."""
    seen: dict[int, list[str]] = {}
    result: dict[str, str] = {}
    for name in names:
        alike = seen.setdefault(tvm_ffi.structural_hash(mod[name]), [])
        result[name] = next((one for one in alike if tvm_ffi.structural_equal(mod[one], mod[name])), name)
        if result[name] == name:
            alike.append(name)
    return result


def _numbered(names: list[str], taken: set[str]) -> list[str]:
    """Names without their numbers, numbered anew in this order."""
    counts: dict[str, int] = {}
    result = []
    for name in names:
        stem = re.sub(r"(?<=\D)\d+$", "", name)
        new = stem
        while new in taken or new in result:
            counts[stem] = counts.get(stem, 0) + 1
            new = f"{stem}{counts[stem]}"
        result.append(new)
    return result
