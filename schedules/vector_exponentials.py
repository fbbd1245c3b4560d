"""exp, exp2 and the functions made of them: sigmoid, sinh, cosh, tanh, erf. What ``vector_math`` says holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import tirx

from .polynomials import ERF_SMALL, ERFC_EXPONENT, EXP, EXP2, SINH_SMALL, TANH_SMALL, horner
from .vector_expressions import (
    LN2_HIGH,
    LN2_LOW,
    ROUND,
    Lets,
    as_rounded,
    at_most,
    bits_of,
    f32,
    from_bits,
    i32,
    select,
    with_sign_of,
)

Expr = Any


def _zero_below(let: Lets, x: Expr, bound: float, function: Callable[[Expr], Expr]) -> Expr:
    """``function(x)``, but 0 below ``bound``.

    Such x are taken out beforehand: a product that underflows costs a processor over a hundred cycles, and masks fill
    rows of attention scores with -inf.
    """
    inside = let(select(x < f32(bound), f32(0.0), x))
    return select(x < f32(bound), f32(0.0), let(function(inside)))


def _scale(let: Lets, mantissa: Expr, rounded: Expr) -> Expr:
    """``mantissa * 2^n`` where ``rounded`` is ``n + ROUND``, -150 <= n <= 129.

    2^n itself may be no float32; two factors of half the exponent are, and only the last product rounds.
    """
    bits = let(bits_of(rounded))
    half = let(bits >> i32(1))
    first = from_bits((half << i32(23)) + i32(127 << 23))
    second = from_bits(((bits - half) << i32(23)) + i32(127 << 23))
    return mantissa * first * second


def _exp(let: Lets, x: Expr, halvings: int = 0) -> Expr:
    """``e^x / 2^halvings`` for -104 <= x <= 89, and a little more with halvings."""
    rounded = let(as_rounded(x * f32(math.log2(math.e)) + f32(ROUND)))
    n = let(rounded - f32(ROUND))
    r = let((x - n * f32(LN2_HIGH)) - n * f32(LN2_LOW))
    power = let(rounded - f32(halvings)) if halvings else rounded
    return _scale(let, let((r * r) * horner(r, EXP) + r + f32(1.0)), power)


def exp(x: Expr) -> Expr:
    let = Lets()
    return let.close(_zero_below(let, let(at_most(let(x), 89.0)), -104.0, lambda inside: _exp(let, inside)))


def exp2(x: Expr) -> Expr:
    let = Lets()

    def power(x: Expr) -> Expr:
        rounded = let(as_rounded(x + f32(ROUND)))
        r = let(x - (rounded - f32(ROUND)))
        return _scale(let, let(r * horner(r, EXP2) + f32(1.0)), rounded)

    return let.close(_zero_below(let, let(at_most(let(x), 129.0)), -150.0, power))


def sigmoid(x: Expr) -> Expr:
    """``1 / (1 + e^-x)`` by way of ``e^-|x|``, which never overflows and keeps small results exact."""
    let = Lets()
    x = let(x)
    e = let(_zero_below(let, let(-tirx.abs(x)), -104.0, lambda inside: _exp(let, inside)))
    return let.close(select(x < f32(0.0), e, f32(1.0)) / (e + f32(1.0)))


def _half_exponentials(let: Lets, size: Expr) -> tuple[Expr, Expr]:
    """``e^size / 2`` and ``e^-size / 2`` for size >= 0; the first doesn't overflow before their sum does."""
    grown = let(_exp(let, let(at_most(size, 90.0)), halvings=1))
    return grown, let(f32(0.25) / grown)


def sinh(x: Expr) -> Expr:
    let = Lets()
    x = let(x)
    size = let(tirx.abs(x))
    grown, shrunk = _half_exponentials(let, size)
    t = let(x * x)
    near = (t * horner(t, SINH_SMALL)) * size + size
    return let.close(with_sign_of(select(size > f32(1.0), grown - shrunk, near), x))


def cosh(x: Expr) -> Expr:
    let = Lets()
    grown, shrunk = _half_exponentials(let, let(tirx.abs(x)))
    return let.close(grown + shrunk)


def _exp2_plain(let: Lets, x: Expr) -> Expr:
    """``2^x`` where that is a normal number, ``|x| < 126``."""
    rounded = let(as_rounded(x + f32(ROUND)))
    r = let(x - (rounded - f32(ROUND)))
    return (r * horner(r, EXP2) + f32(1.0)) * from_bits((bits_of(rounded) << i32(23)) + i32(127 << 23))


def tanh(x: Expr) -> Expr:
    """Far out ``1 - 2 / (e^2|x| + 1)``, whose error shrinks with the second term; near 0 an odd polynomial."""
    let = Lets()
    x = let(x)
    size = let(at_most(let(tirx.abs(x)), 9.1))
    grown = let(_exp2_plain(let, let(size * f32(2 * math.log2(math.e)))))
    far = f32(1.0) - f32(1.0) / (grown * f32(0.5) + f32(0.5))
    t = let(x * x)
    near = (t * horner(t, TANH_SMALL)) * size + size
    return let.close(with_sign_of(select(size > f32(0.625), far, near), x))


def erf(x: Expr) -> Expr:
    """Far out ``1 - erfc(|x|)``, the latter as a power of 2; near 0 an odd polynomial."""
    let = Lets()
    x = let(x)
    size = let(at_most(let(tirx.abs(x)), 4.0))
    far = f32(1.0) - _exp2_plain(let, let(horner(size, ERFC_EXPONENT)))
    t = let(x * x)
    near = horner(t, ERF_SMALL) * size + size
    return let.close(with_sign_of(select(size > f32(0.92), far, near), x))
