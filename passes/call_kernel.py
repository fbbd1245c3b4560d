"""Call a tensor expression such that its kernel sees plain variables where the graph has composite dims.

A dim like ``(width - 1) // 4 + 1`` would be simplified into the kernel's loop bounds, where nothing can tell it from
arithmetic any more. The kernel is built over stand-ins with a variable per dim, and called with the real arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.sym import Analyzer

from .constants import shape_of
from .name_dims import name_dims_of


def call_kernel(
    builder: relax.BlockBuilder,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    pattern: int,
    attributes: Mapping[str, Any] | None = None,
) -> relax.Call:
    """``call_tir`` of ``function(*args)``; ``pattern`` is TVM's ``OpPatternKind`` for fusion.

    ``attributes`` are further ones of the function.
    """
    names: list[tuple[Any, tirx.Var]] = []
    stand_ins = [_stand_in(arg, names) for arg in args]
    attrs = {"op_pattern": pattern, **(attributes or {})}
    call = builder.call_te(function, *stand_ins, primfunc_name_hint=function.__name__, primfunc_attrs=attrs)
    builder.update_func(call.args[0], name_dims_of(builder.get()[call.args[0]]))
    if not names:
        return call
    real = {stand_in: arg for stand_in, arg in zip(stand_ins, args, strict=True) if isinstance(stand_in, relax.Var)}
    fields = [real.get(field, field) if isinstance(field, relax.Var) else field for field in call.args[1].fields]
    fields = [_restored(field, names) if tvm.ir.is_prim_expr(field) else field for field in fields]
    out = call.ty_args[0]
    dims = [Analyzer().simplify(_restored(dim, names)) for dim in out.shape.values]
    return relax.call_tir(call.args[0], relax.Tuple(fields), relax.TensorType(dims, out.dtype))


def _stand_in(arg: Any, names: list[tuple[Any, tirx.Var]]) -> Any:
    dims = shape_of(arg) if isinstance(arg, relax.Var) else None
    if dims is None or not any(_is_composite(dim) for dim in dims):
        return arg
    named = [_name(dim, names) if _is_composite(dim) else dim for dim in dims]
    return relax.Var(arg.name, relax.TensorType(named, arg.ty.dtype))


def _is_composite(dim: Any) -> bool:
    return not isinstance(dim, int | tirx.Var)


def _name(dim: Any, names: list[tuple[Any, tirx.Var]]) -> tirx.Var:
    for known, var in names:
        if tvm_ffi.structural_equal(known, dim):
            return var
    names.append((dim, tirx.Var(f"d{len(names)}", "int64")))
    return names[-1][1]


def _restored(expr: Any, names: list[tuple[Any, tirx.Var]]) -> Any:
    original = {var: dim for dim, var in names}
    return tvm_ffi.structural_map(expr, (tvm.ir.Var, lambda var: original.get(var, var)))
