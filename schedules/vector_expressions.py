"""Building blocks of float32 arithmetic as expressions: named subexpressions, bit patterns, selection by lane.

TVM's simplifier treats floats as real numbers (``(x + c) - c`` becomes x, ``not x <= y`` becomes ``y < x``): sums whose
rounding matters are hidden from it (``as_rounded``), and comparisons have to be written such that a NaN takes the
branch that keeps it.
"""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

Expr = Any


# Adding this to |x| < 2^22 leaves round(x), half to even, in the low bits of the sum.
ROUND = 12582912.0

# ln(2) in two parts, the first of 9 bits: its product with an exponent is exact (Cody and Waite, 1980).
LN2_HIGH = 0.693359375
LN2_LOW = math.log(2) - LN2_HIGH


class Lets:
    """Names for subexpressions that are used more than once."""

    def __init__(self) -> None:
        self.bindings: list[tuple[tirx.Var, Expr]] = []

    def __call__(self, value: Expr) -> tirx.Var:
        var = tirx.Var(f"t{len(self.bindings)}", str(value.ty.dtype))
        self.bindings.append((var, value))
        return var

    def close(self, result: Expr) -> Expr:
        for var, value in reversed(self.bindings):
            result = tirx.Let(var, value, result)
        return result


def f32(value: float) -> Expr:
    return tirx.const(value, "float32")


def i32(value: int) -> Expr:
    return tirx.const(value, "int32")


def lanes_of(x: Expr) -> int:
    """1 for a scalar."""
    return int(str(x.ty.dtype).partition("x")[2] or 1)


def typed_like(x: Expr, dtype: str) -> str:
    """``dtype`` with as many lanes as ``x``."""
    lanes = lanes_of(x)
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def bits_of(x: Expr) -> Expr:
    return tirx.reinterpret(typed_like(x, "int32"), x)


def from_bits(x: Expr) -> Expr:
    return tirx.reinterpret(typed_like(x, "float32"), x)


def equal(x: Expr, value: float) -> Expr:
    """Python's == compares the nodes of expressions."""
    lanes = lanes_of(x)
    constant = tirx.const(value, str(x.ty.dtype).partition("x")[0])
    return tirx.EQ(x, constant if lanes == 1 else tirx.Broadcast(constant, lanes))


def select(condition: Expr, then: Expr, otherwise: Expr) -> Expr:
    """TVM spreads scalars over lanes everywhere but in Select."""
    lanes = lanes_of(condition)
    values = [tirx.Broadcast(v, lanes) if lanes > lanes_of(v) else v for v in (then, otherwise)]
    return tirx.Select(condition, *values)


def as_rounded(x: Expr) -> Expr:
    """The same value, opaque to TVM's simplifier and free in machine code."""
    return from_bits(bits_of(x))


def at_most(x: Expr, bound: float) -> Expr:
    return select(x > f32(bound), f32(bound), x)


def with_sign_of(magnitude: Expr, x: Expr) -> Expr:
    return from_bits(bits_of(magnitude) | (bits_of(x) & i32(-(2**31))))
