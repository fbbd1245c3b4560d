"""Fractions of dims, for exporters that compute sizes in floats: ``Shape`` → ``Cast`` → ``Mul(0.5)`` → ``Floor``.

Only what float32 computes without an error that Floor or Ceil could see is taken: factors and divisors that are small
dyadic fractions, or one division by a whole number. Everything else is left to float tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from tvm import tirx

from .values import PrimExpr, as_int

LARGEST = 1 << 12
"""Bound of numerators and denominators: a dim below 2**12 times it is exact in float32's 24 bits."""


@dataclass(frozen=True)
class Ratio:
    """``numerator / denominator``, with a numerator that is an int64 expression and a denominator above 1."""

    numerator: PrimExpr
    denominator: int

    @property
    def dyadic(self) -> bool:
        return self.denominator & (self.denominator - 1) == 0

    def __float__(self) -> float:
        return int(self.numerator) / self.denominator


Number = Any
"""An int, an int64 expression or a Ratio."""


def from_float(value: Any) -> Number | None:
    """A constant as a number that can be computed with, else None."""
    if isinstance(value, bool | np.bool_) or not np.isfinite(value):
        return None
    fraction = Fraction(float(value))
    if fraction.denominator == 1:
        return int(fraction)
    if fraction.denominator > LARGEST or abs(fraction.numerator) > LARGEST:
        return None
    return Ratio(fraction.numerator, fraction.denominator)


def _parts(value: Number) -> tuple[PrimExpr, int]:
    return (value.numerator, value.denominator) if isinstance(value, Ratio) else (value, 1)


def _made(numerator: PrimExpr, denominator: int) -> Number:
    known = as_int(numerator)
    if known is not None:
        fraction = Fraction(known, denominator)
        return fraction.numerator if fraction.denominator == 1 else Ratio(fraction.numerator, fraction.denominator)
    return numerator if denominator == 1 else Ratio(numerator, denominator)


def exactly(operation: Callable[[Number, Number], Number | None]) -> Callable[[Number, Number], Number | None]:
    """``operation`` unless an operand is a fraction that floats only approximate, such as a third."""

    def run(a: Number | None, b: Number | None) -> Number | None:
        if a is None or b is None or any(isinstance(x, Ratio) and not x.dyadic for x in (a, b)):
            return None
        return operation(a, b)

    return run


@exactly
def add(a: Number, b: Number) -> Number:
    (p, q), (r, s) = _parts(a), _parts(b)
    common = max(q, s)  # powers of two
    return _made(p * (common // q) + r * (common // s), common)


@exactly
def subtract(a: Number, b: Number) -> Number:
    negative = Ratio(-b.numerator, b.denominator) if isinstance(b, Ratio) else -b
    return add(a, negative)


@exactly
def multiply(a: Number, b: Number) -> Number | None:
    (p, q), (r, s) = _parts(a), _parts(b)
    return None if q * s > LARGEST else _made(p * r, q * s)


@exactly
def divide(a: Number, b: Number) -> Number | None:
    """By a constant only."""
    (p, q), (r, s) = _parts(a), _parts(b)
    divisor = as_int(r)
    if not divisor or q * abs(divisor) > LARGEST:
        return None
    sign = 1 if divisor > 0 else -1
    common = Fraction(s, q * abs(divisor))
    return _made(p * (sign * common.numerator), common.denominator)


def floor(value: Number) -> PrimExpr:
    if not isinstance(value, Ratio):
        return value
    known = as_int(value.numerator)
    if known is not None:
        return known // value.denominator
    return tirx.floordiv(value.numerator, tirx.const(value.denominator, "int64"))


def ceil(value: Number) -> PrimExpr:
    return (
        floor(Ratio(value.numerator + (value.denominator - 1), value.denominator))
        if isinstance(value, Ratio)
        else value
    )


def truncate(value: Number, is_positive: Callable[[PrimExpr], bool]) -> PrimExpr:
    """Towards zero, as a cast to integers does it."""
    if not isinstance(value, Ratio):
        return value
    known = as_int(value.numerator)
    if known is not None:
        return int(Fraction(known, value.denominator))
    if is_positive(value.numerator):
        return floor(value)
    return tirx.truncdiv(value.numerator, tirx.const(value.denominator, "int64"))


def as_scalar(value: Number, dtype: str) -> PrimExpr:
    """The number as an expression of ``dtype``."""
    numerator, denominator = _parts(value)
    whole = tirx.const(int(numerator), dtype) if as_int(numerator) is not None else numerator.astype(dtype)
    return whole if denominator == 1 else whole / tirx.const(denominator, dtype)
