"""log to several bases, and log1p. What ``vector_math`` says holds."""

from __future__ import annotations

import math
from typing import Any

from .polynomials import LOG, horner
from .vector_expressions import (
    LN2_HIGH,
    LN2_LOW,
    Lets,
    as_rounded,
    bits_of,
    equal,
    f32,
    from_bits,
    i32,
    select,
    typed_like,
)

Expr = Any


def _split(let: Lets, x: Expr) -> tuple[Expr, Expr]:
    """(m, e) with ``x = m * 2^e`` and ``sqrt(1/2) <= m < sqrt(2)``, for normal positive x; e is int32."""
    bits = let(bits_of(x))
    e = let((bits - i32(0x3F3504F3)) >> i32(23))
    return from_bits(bits - (e << i32(23))), e


def _log_parts(let: Lets, f: Expr) -> Expr:
    """``log(1 + f) - f`` for f in the range of LOG."""
    square = let(f * f)
    return let((square * f) * horner(f, LOG) - square * f32(0.5))


def _log_of_positive(let: Lets, x: Expr) -> tuple[Expr, Expr, Expr]:
    """(f, log(1 + f) - f, e) with ``x = (1 + f) * 2^e``; denormal x are scaled up first."""
    small = x < f32(2.0**-126)
    m, e = _split(let, let(select(small, x * f32(2.0**23), x)))
    f = let(m - f32(1.0))
    exponent = let((e - select(small, i32(23), i32(0))).astype(typed_like(x, "float32")))
    return f, _log_parts(let, f), exponent


def _log_edges(x: Expr, positive: Expr, result: Expr) -> Expr:
    """``result`` where ``positive`` is finite and above 0, which is x or 1 + x; -inf, NaN or infinity elsewhere."""
    below = select(equal(positive, 0.0), f32(-math.inf), f32(math.nan))
    return select(positive > f32(0.0), select(positive < f32(math.inf), result, x), below)


def log(x: Expr) -> Expr:
    let = Lets()
    x = let(x)
    f, rest, e = _log_of_positive(let, x)
    return let.close(_log_edges(x, x, let((f + (rest + e * f32(LN2_LOW))) + e * f32(LN2_HIGH))))


def _log_base(x: Expr, base: float) -> Expr:
    """The exponent's share of the logarithm is split as in ``log``; the mantissa's is ``log(m) / log(base)``."""
    let = Lets()
    x = let(x)
    f, rest, e = _log_of_positive(let, x)
    unit = math.log(2) / math.log(base)
    high = round(unit * 512) / 512
    low = e * f32(unit - high) if unit != high else None
    mantissa = let((f + rest) * f32(1 / math.log(base)))
    return let.close(_log_edges(x, x, let((mantissa if low is None else mantissa + low) + e * f32(high))))


def log2(x: Expr) -> Expr:
    return _log_base(x, 2.0)


def log10(x: Expr) -> Expr:
    return _log_base(x, 10.0)


def log1p(x: Expr) -> Expr:
    """``log(u)`` for ``u = 1 + x`` rounded, with what the rounding lost brought to u's scale and put back."""
    let = Lets()
    x = let(x)
    u = let(as_rounded(x + f32(1.0)))
    lost = x - as_rounded(u - f32(1.0))
    m, e = _split(let, u)
    # Above 2^100 nothing of any weight is lost, and 2^-e would leave the normal range.
    scale = from_bits((i32(127) - select(e > i32(100), i32(100), e)) << i32(23))
    f = let((m - f32(1.0)) + lost * scale)
    e = let(e.astype(typed_like(e, "float32")))
    result = let((f + (_log_parts(let, f) + e * f32(LN2_LOW))) + e * f32(LN2_HIGH))
    # log1p(-0) is -0, which adding to 1 forgets.
    return let.close(select(equal(x, 0.0), x, _log_edges(x, u, result)))
