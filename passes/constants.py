"""Small helpers that passes share: constants as NumPy arrays, dims as ints, bindings by variable."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx


def is_constant(expr: Any) -> bool:
    return isinstance(expr, tvm.ir.GenericConst)


def as_array(expr: Any) -> np.ndarray | None:
    """The array of a constant expression, or None. bfloat16 comes back as ml_dtypes' type."""
    return expr.value.numpy() if is_constant(expr) else None


def array_of(expr: relax.Expr) -> np.ndarray:
    """The array of an expression that is a constant."""
    array = as_array(expr)
    assert array is not None
    return array


def constant(array: np.ndarray) -> relax.Expr:
    return relax.const(np.ascontiguousarray(array) if array.ndim else array, array.dtype.name)


def as_int(expr: Any) -> int | None:
    """The Python int that a dim is, or None for a symbolic one."""
    if isinstance(expr, int):
        return expr
    return int(expr.value) if isinstance(expr, tirx.IntImm) else None


def shape_of(expr: relax.Expr) -> list[Any] | None:
    """Dims of a tensor expression, ints where fixed; None where Relax knows no shape."""
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return None
    dims = []
    for dim in ty.shape.values:
        known = as_int(dim)
        dims.append(dim if known is None else known)
    return dims


def dims_of(expr: relax.Expr) -> list[Any]:
    """Dims of a tensor expression whose shape is known."""
    dims = shape_of(expr)
    assert dims is not None
    return dims


def dtype_of(expr: relax.Expr) -> str:
    return str(expr.ty.dtype)


def op_name(expr: Any) -> str:
    """``relax.nn.conv2d`` and the like for a call of an operator, else an empty string."""
    if isinstance(expr, tvm.ir.Call) and isinstance(expr.op, tvm.ir.Op):
        return expr.op.name
    return ""
