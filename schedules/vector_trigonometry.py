"""Sine and cosine on float32 as plain arithmetic, for all but huge arguments.

The argument is brought into [-pi/4, pi/4] in float64, whose 53 bits let the product of the quadrant with the leading
33 bits of pi/2 be exact (Cody and Waite, 1980). That holds up to 2^19; a vector with any element beyond it goes to the
C library as a whole, which reduces with as many digits of pi as it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import tirx

from .polynomials import COS, SIN, horner
from .vector_expressions import Lets, equal, f32, lanes_of, select, typed_like

Expr = Any

_FAR = 2.0**19
_HALF_PI_HIGH = round(math.pi / 2 * 2**32) / 2**32
# pi/2 less that, from more digits than a float64 of pi holds.
_HALF_PI_LOW = 6.123233995736766e-17 + (math.pi / 2 - _HALF_PI_HIGH)
_ROUND64 = 1.5 * 2.0**52


def _d(value: float) -> Expr:
    return tirx.const(value, "float64")


def _reduced(let: Lets, x: Expr) -> tuple[Expr, Expr]:
    """(r, quadrant) with ``x = r + quadrant * pi/2`` and ``|r| <= pi/4``."""
    wide = let(x.astype(typed_like(x, "float64")))
    # Opaque to the simplifier, which would take rounding for nothing; NaN and huge values must not become integers.
    shifted = tirx.reinterpret(typed_like(x, "int64"), wide * _d(2 / math.pi) + _d(_ROUND64))
    count = let(tirx.reinterpret(typed_like(x, "float64"), shifted) - _d(_ROUND64))
    r = (wide - count * _d(_HALF_PI_HIGH)) - count * _d(_HALF_PI_LOW)
    safe = select(tirx.abs(count) <= _d(_FAR), count, _d(0.0))
    return let(r.astype(typed_like(x, "float32"))), let(safe.astype(typed_like(x, "int32")))


def _wave(let: Lets, r: Expr, quadrant: Expr) -> Expr:
    """``sin(r + quadrant * pi/2)``."""
    t = let(r * r)
    sine = (t * horner(t, SIN)) * r + r
    cosine = (t * t) * horner(t, COS) + (f32(1.0) - t * f32(0.5))
    value = let(select(equal(quadrant & tirx.const(1, "int32"), 0), sine, cosine))
    return select(equal(quadrant & tirx.const(2, "int32"), 0), value, -value)


def _any(condition: Expr) -> Expr:
    if lanes_of(condition) == 1:
        return condition
    return tirx.call_llvm_pure_intrin("bool", "llvm.vector.reduce.or", condition)


def _unless_far(x: Expr, near: Callable[[Lets, Expr], Expr], library: Callable[[Expr], Expr]) -> Expr:
    let = Lets()
    x = let(x)
    inner = Lets()
    far = _any(tirx.abs(x) > f32(_FAR))
    return let.close(tirx.if_then_else(far, library(x), inner.close(near(inner, x))))


def sin(x: Expr) -> Expr:
    def near(let: Lets, x: Expr) -> Expr:
        wave = _wave(let, *_reduced(let, x))
        return select(equal(x, 0.0), x, wave)  # -0 is its own sine

    return _unless_far(x, near, tirx.sin)


def cos(x: Expr) -> Expr:
    def near(let: Lets, x: Expr) -> Expr:
        r, quadrant = _reduced(let, x)
        return _wave(let, r, let(quadrant + tirx.const(1, "int32")))

    return _unless_far(x, near, tirx.cos)
