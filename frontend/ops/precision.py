"""Arithmetic of 16-bit floats in float32: what ONNX Runtime does, and what libraries of C functions offer."""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax

from ..context import Context
from ..values import Value, tensor_dtype

HALF = ("float16", "bfloat16")
FLOATS = ("float32", "float64", *HALF)


def widened(ctx: Context, value: Value) -> relax.Expr:
    """The value as a tensor, 16-bit floats cast to float32."""
    tensor = ctx.tensor(value)
    return ctx.emit(relax.op.astype(tensor, "float32")) if tensor_dtype(value) in HALF else tensor


def cast_to(ctx: Context, value: relax.Expr, dtype: str) -> relax.Expr:
    """``value`` as ``dtype``; itself where it has that dtype already."""
    return value if tensor_dtype(value) == dtype else ctx.emit(relax.op.astype(value, dtype))


def in_float32(ctx: Context, value: Value, function: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
    """``function`` of the value, computed in float32 where the value is a 16-bit float, in its own dtype."""
    result = function(widened(ctx, value))
    return cast_to(ctx, result, tensor_dtype(value))
