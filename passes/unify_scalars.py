"""Hand the dims that a fused function needs over in one way.

FuseOps gives a function scalar parameters for the dims that kernels compute with, and a trailing shape for those that
only bound their loops. TVM's merging of the group into one kernel fails on a function that has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import relax


def unify_scalars(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Between FuseOps and FuseTIR: scalars move into the shape. Returns the module and how many functions changed."""
    changed = {gv.name_hint for gv, function in mod.functions.items() if _has_both(function)}
    if not changed:
        return mod, 0
    result = mod.clone()
    for gv, function in mod.functions.items():
        if gv.name_hint in changed:
            tensors, dims = _split(function.params, list(function.params[-1].ty.values))
            shape = relax.Var(function.params[-1].name, relax.ShapeType(dims))
            unified = relax.Function(
                [*tensors, shape], function.body, function.ret_ty, function.is_pure, function.attrs
            )
            result.update_func(gv, unified)
        elif isinstance(function, relax.Function):
            result.update_func(gv, _with_calls(function, changed))
    return result, len(changed)


def _has_both(function: Any) -> bool:
    if not isinstance(function, relax.Function) or not function.attrs or "Primitive" not in function.attrs:
        return False
    takes_shape = bool(function.params) and isinstance(function.params[-1].ty, relax.ShapeType)
    return takes_shape and any(tvm.ir.is_prim_expr(param) for param in function.params)


def _split(values: Sequence[Any], dims: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Parameters or arguments, the last of which is a shape of ``dims``, as tensors and dims."""
    scalars = [value for value in values[:-1] if tvm.ir.is_prim_expr(value)]
    return [value for value in values[:-1] if not tvm.ir.is_prim_expr(value)], [*scalars, *dims]


def _with_calls(function: relax.Function, changed: set[str]) -> relax.Function:
    def move(call: tvm.ir.Call) -> Any:
        if not isinstance(call.op, tvm.ir.GlobalVar) or call.op.name_hint not in changed:
            return call
        tensors, dims = _split(list(call.args), list(call.args[-1].values))
        arguments = [*tensors, relax.ShapeExpr(dims)]
        return tvm.ir.Call(call.op, arguments, call.attrs, call.ty_args, call.span, call.ty)

    return tvm_ffi.structural_map(function, (tvm.ir.Call, move))
