"""Binary and variadic arithmetic: Add, Sub, Mul, Div, Mod, Pow, Max, Min, Sum, Mean.

https://onnx.ai/onnx/operators/onnx__Add.html and siblings. Integers wrap around on overflow, divide towards zero, and
divide by zero to 0 (ONNX leaves that open; the processor's trap would end the process).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from tvm import relax, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, rank, tensor_dtype, tensor_shape
from .broadcasting import RelaxOp, Scalar, elementwise
from .precision import cast_to
from .wrapping import negated, wrapped_add, wrapped_multiply, wrapped_subtract

BinaryOp = Callable[[PrimExpr, PrimExpr], PrimExpr]


def is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint"))


def aligned(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    """Operands as today's broadcasting wants them: before opset 7 ``axis`` said where the second one starts."""
    left, right = inputs
    axis = node.attr("axis")
    if node.opset < 7 and node.attr("broadcast", 0) and axis is not None:
        axis = axis % rank(left)
        trailing = rank(left) - axis - rank(right)
        if trailing > 0:
            right = ctx.reshape(right, [*tensor_shape(right), *([1] * trailing)])
    return [left, right]


def _plain(operation: Scalar, relax_op: RelaxOp, name: str) -> Callable[..., relax.Expr]:
    def apply(ctx: Context, left: Value, right: Value) -> relax.Expr:
        whole = is_integer(tensor_dtype(left))
        return elementwise(ctx, [left, right], operation, None if whole else relax_op, name)

    return apply


add = _plain(wrapped_add, relax.op.add, "add")
subtract = _plain(wrapped_subtract, relax.op.subtract, "subtract")
multiply = _plain(wrapped_multiply, relax.op.multiply, "multiply")


def divide(ctx: Context, left: Value, right: Value) -> relax.Expr:
    whole = is_integer(tensor_dtype(left))
    if not whole and isinstance(right, np.ndarray) and right.size == 1 and not right.any():
        # The same numbers, of which TVM would say "divide by zero": infinities, and NaN of 0.
        return multiply(ctx, left, np.asarray(np.copysign(np.full_like(right, np.inf), right), right.dtype))
    return elementwise(
        ctx, [left, right], truncated_division if whole else tirx.div, None if whole else relax.op.divide, "divide"
    )


def truncated_division(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """a / b towards zero; 0 for b = 0. The least integer over -1 traps too, so -1 becomes a negation."""
    dtype = str(a.ty.dtype)
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
    if isinstance(b, tirx.IntImm) and b.value not in (0, -1):
        return tirx.truncdiv(a, b)
    if dtype.startswith("uint"):
        return tirx.Select(tirx.EQ(b, zero), zero, tirx.truncdiv(a, tirx.Select(tirx.EQ(b, zero), one, b)))
    minus = tirx.const(-1, dtype)
    trivial = tirx.Or(tirx.EQ(b, zero), tirx.EQ(b, minus))
    quotient = tirx.truncdiv(a, tirx.Select(trivial, one, b))
    return tirx.Select(tirx.EQ(b, zero), zero, tirx.Select(tirx.EQ(b, minus), negated(a), quotient))


def truncated_remainder(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """C's a % b, with the sign of a; 0 for b = 0."""
    dtype = str(a.ty.dtype)
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
    trivial = tirx.EQ(b, zero)
    if dtype.startswith("int"):
        trivial = tirx.Or(trivial, tirx.EQ(b, tirx.const(-1, dtype)))
    return tirx.Select(trivial, zero, tirx.truncmod(a, tirx.Select(trivial, one, b)))


def exclusive_or(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """Of bools, which the code generator can't compare."""
    return tirx.Or(tirx.And(a, tirx.Not(b)), tirx.And(tirx.Not(a), b))


def floored_remainder(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """Python's a % b, with the sign of b; 0 for b = 0."""
    rest = truncated_remainder(a, b)
    dtype = str(a.ty.dtype)
    if dtype.startswith("uint"):
        return rest
    zero = tirx.const(0, dtype)
    crosses = tirx.And(tirx.NE(rest, zero), exclusive_or(tirx.LT(rest, zero), tirx.LT(b, zero)))
    return tirx.Select(crosses, rest + b, rest)


def float_remainder(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """C's fmod, in float32 for 16-bit floats."""
    dtype = str(a.ty.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    function = "fmod" if wide == "float64" else "fmodf"
    return tirx.call_pure_extern(wide, function, a.astype(wide), b.astype(wide)).astype(dtype)


def float_floored_remainder(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    rest = float_remainder(a, b)
    zero = tirx.const(0, str(a.ty.dtype))
    crosses = tirx.And(tirx.NE(rest, zero), exclusive_or(tirx.LT(rest, zero), tirx.LT(b, zero)))
    return tirx.Select(crosses, rest + b, rest)


def _binary(operation: Callable[..., relax.Expr]) -> Callable[..., Value]:
    def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
        return operation(ctx, *aligned(ctx, node, inputs))

    return convert


converter("Add")(_binary(add))
converter("Sub")(_binary(subtract))
converter("Mul")(_binary(multiply))
converter("Div")(_binary(divide))


@converter("Mod", since=10)
def mod(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    truncates = bool(node.attr("fmod", 0))
    if is_integer(tensor_dtype(inputs[0])):
        return elementwise(ctx, inputs, truncated_remainder if truncates else floored_remainder, None, "mod")
    return elementwise(ctx, inputs, float_remainder if truncates else float_floored_remainder, None, "mod")


@converter("Pow")
def power(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """The result has the base's dtype; small constant exponents are products, exact also for integers."""
    base, exponent = aligned(ctx, node, inputs)
    dtype = tensor_dtype(base)
    if isinstance(exponent, np.ndarray) and exponent.size == 1 and rank(exponent) <= rank(base):
        known = exponent.reshape(-1)[0]
        if known == 1:
            return base
        if known in (2, 3):
            return reduce(lambda a, b: multiply(ctx, a, b), [base] * int(known))
    wide = "float64" if is_integer(dtype) or dtype == "float64" else "float32"

    def scalar(a: PrimExpr, b: PrimExpr) -> PrimExpr:
        return tirx.power(a.astype(wide), b.astype(wide)).astype(dtype)

    same = dtype == tensor_dtype(exponent) == "float32"
    return elementwise(ctx, [base, exponent], scalar, relax.op.power if same else None, "power")


# Variadic


def is_nan(x: PrimExpr) -> PrimExpr:
    """Comparing a number with itself won't do: simplifiers take them to be equal."""
    dtype = str(x.ty.dtype)
    if "float" not in dtype:
        return tirx.const(False, "bool")
    return tirx.isnan(x if dtype in ("float32", "float64") else x.astype("float32"))


def larger(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The larger number; NaN where either is."""
    return tirx.Select(tirx.Or(tirx.GT(a, b), is_nan(a)), a, b)


def smaller(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The smaller number; NaN where either is."""
    return tirx.Select(tirx.Or(tirx.LT(a, b), is_nan(a)), a, b)


def maximum(ctx: Context, left: Value, right: Value) -> relax.Expr:
    return _extreme(ctx, left, right, larger, relax.op.maximum, "maximum")


def minimum(ctx: Context, left: Value, right: Value) -> relax.Expr:
    return _extreme(ctx, left, right, smaller, relax.op.minimum, "minimum")


def _extreme(ctx: Context, left: Value, right: Value, scalar: Scalar, relax_op: RelaxOp, name: str) -> relax.Expr:
    """Relax's max(a, b) is ``a > b ? a : b``: right for NaN when a is a constant that is not NaN."""
    if isinstance(right, np.ndarray):
        left, right = right, left
    fits = is_integer(tensor_dtype(left)) or (
        isinstance(left, np.ndarray) and not np.isnan(left.astype(np.float64)).any()
    )
    return elementwise(ctx, [left, right], scalar, relax_op if fits else None, name)


def _variadic(operation: Callable[..., relax.Expr]) -> Callable[..., Value]:
    def convert(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
        return reduce(lambda a, b: operation(ctx, a, b), inputs)

    return convert


converter("Max")(_variadic(maximum))
converter("Min")(_variadic(minimum))
converter("Sum")(_variadic(add))


@converter("Mean")
def mean(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    if not inputs:
        raise ConversionError("Mean needs at least one input")
    dtype = tensor_dtype(inputs[0])
    total = reduce(lambda a, b: add(ctx, a, b), inputs)
    return cast_to(ctx, divide(ctx, total, np.array(len(inputs), np.float32).astype(numpy_type(dtype))), dtype)


def numpy_type(dtype: str) -> np.dtype:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
