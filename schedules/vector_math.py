"""Elementary functions on float32 as plain arithmetic, which LLVM compiles to vector instructions at any width.

Each takes a float32 expression, a scalar or a vector, and gives one, within 2.5 ulp over the whole range, denormal
results included. Edges are IEEE's: NaN stays NaN, overflow is infinity, tanh and erf keep the sign of zero.

Only operations that SSE2 has are used: rounding is done by adding and taking away 1.5 * 2^23 instead of ``floor``.
Nothing here depends on whether a multiply and an add are fused. TVM's simplifier treats floats as real numbers
(``(x + c) - c`` becomes x, ``not x <= y`` becomes ``y < x``), so sums whose rounding matters are hidden from it, and
comparisons are written such that a NaN takes the branch that keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import tirx

from .polynomials import ERF_SMALL, ERFC_EXPONENT, EXP, EXP2, LOG, SINH_SMALL, TANH_SMALL, horner

Expr = Any

# Adding this to |x| < 2^22 leaves round(x), half to even, in the low bits of the sum.
_ROUND = 12582912.0

# ln(2) in two parts, the first of 9 bits: its product with an exponent is exact (Cody and Waite, 1980).
_LN2_HIGH = 0.693359375
_LN2_LOW = math.log(2) - _LN2_HIGH


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


def _f(value: float) -> Expr:
    return tirx.const(value, "float32")


def _i(value: int) -> Expr:
    return tirx.const(value, "int32")


def lanes_of(x: Expr) -> int:
    """1 for a scalar."""
    return int(str(x.ty.dtype).partition("x")[2] or 1)


def typed_like(x: Expr, dtype: str) -> str:
    """``dtype`` with as many lanes as ``x``."""
    lanes = lanes_of(x)
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _bits(x: Expr) -> Expr:
    return tirx.reinterpret(typed_like(x, "int32"), x)


def _from_bits(x: Expr) -> Expr:
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


def _as_rounded(x: Expr) -> Expr:
    """The same value, opaque to TVM's simplifier and free in machine code."""
    return _from_bits(_bits(x))


def _at_most(x: Expr, bound: float) -> Expr:
    return select(x > _f(bound), _f(bound), x)


def _zero_below(let: Lets, x: Expr, bound: float, function: Callable[[Expr], Expr]) -> Expr:
    """``function(x)``, but 0 below ``bound``.

    Such x are taken out beforehand: a product that underflows costs a processor over a hundred cycles, and masks fill
    rows of attention scores with -inf.
    """
    inside = let(select(x < _f(bound), _f(0.0), x))
    return select(x < _f(bound), _f(0.0), let(function(inside)))


def _scale(let: Lets, mantissa: Expr, rounded: Expr) -> Expr:
    """``mantissa * 2^n`` where ``rounded`` is ``n + _ROUND``, -150 <= n <= 129.

    2^n itself may be no float32; two factors of half the exponent are, and only the last product rounds.
    """
    bits = let(_bits(rounded))
    half = let(bits >> _i(1))
    first = _from_bits((half << _i(23)) + _i(127 << 23))
    second = _from_bits(((bits - half) << _i(23)) + _i(127 << 23))
    return mantissa * first * second


def _exp(let: Lets, x: Expr, halvings: int = 0) -> Expr:
    """``e^x / 2^halvings`` for -104 <= x <= 89, and a little more with halvings."""
    rounded = let(_as_rounded(x * _f(math.log2(math.e)) + _f(_ROUND)))
    n = let(rounded - _f(_ROUND))
    r = let((x - n * _f(_LN2_HIGH)) - n * _f(_LN2_LOW))
    power = let(rounded - _f(halvings)) if halvings else rounded
    return _scale(let, let((r * r) * horner(r, EXP) + r + _f(1.0)), power)


def exp(x: Expr) -> Expr:
    let = Lets()
    return let.close(_zero_below(let, let(_at_most(let(x), 89.0)), -104.0, lambda inside: _exp(let, inside)))


def exp2(x: Expr) -> Expr:
    let = Lets()

    def power(x: Expr) -> Expr:
        rounded = let(_as_rounded(x + _f(_ROUND)))
        r = let(x - (rounded - _f(_ROUND)))
        return _scale(let, let(r * horner(r, EXP2) + _f(1.0)), rounded)

    return let.close(_zero_below(let, let(_at_most(let(x), 129.0)), -150.0, power))


def sigmoid(x: Expr) -> Expr:
    """``1 / (1 + e^-x)`` by way of ``e^-|x|``, which never overflows and keeps small results exact."""
    let = Lets()
    x = let(x)
    e = let(_zero_below(let, let(-tirx.abs(x)), -104.0, lambda inside: _exp(let, inside)))
    return let.close(select(x < _f(0.0), e, _f(1.0)) / (e + _f(1.0)))


def _half_exponentials(let: Lets, size: Expr) -> tuple[Expr, Expr]:
    """``e^size / 2`` and ``e^-size / 2`` for size >= 0; the first doesn't overflow before their sum does."""
    grown = let(_exp(let, let(_at_most(size, 90.0)), halvings=1))
    return grown, let(_f(0.25) / grown)


def sinh(x: Expr) -> Expr:
    let = Lets()
    x = let(x)
    size = let(tirx.abs(x))
    grown, shrunk = _half_exponentials(let, size)
    t = let(x * x)
    near = (t * horner(t, SINH_SMALL)) * size + size
    return let.close(_with_sign_of(select(size > _f(1.0), grown - shrunk, near), x))


def cosh(x: Expr) -> Expr:
    let = Lets()
    grown, shrunk = _half_exponentials(let, let(tirx.abs(x)))
    return let.close(grown + shrunk)


def _exp2_plain(let: Lets, x: Expr) -> Expr:
    """``2^x`` where that is a normal number, ``|x| < 126``."""
    rounded = let(_as_rounded(x + _f(_ROUND)))
    r = let(x - (rounded - _f(_ROUND)))
    return (r * horner(r, EXP2) + _f(1.0)) * _from_bits((_bits(rounded) << _i(23)) + _i(127 << 23))


def _with_sign_of(magnitude: Expr, x: Expr) -> Expr:
    return _from_bits(_bits(magnitude) | (_bits(x) & _i(-(2**31))))


def tanh(x: Expr) -> Expr:
    """Far out ``1 - 2 / (e^2|x| + 1)``, whose error shrinks with the second term; near 0 an odd polynomial."""
    let = Lets()
    x = let(x)
    size = let(_at_most(let(tirx.abs(x)), 9.1))
    grown = let(_exp2_plain(let, let(size * _f(2 * math.log2(math.e)))))
    far = _f(1.0) - _f(1.0) / (grown * _f(0.5) + _f(0.5))
    t = let(x * x)
    near = (t * horner(t, TANH_SMALL)) * size + size
    return let.close(_with_sign_of(select(size > _f(0.625), far, near), x))


def erf(x: Expr) -> Expr:
    """Far out ``1 - erfc(|x|)``, the latter as a power of 2; near 0 an odd polynomial."""
    let = Lets()
    x = let(x)
    size = let(_at_most(let(tirx.abs(x)), 4.0))
    far = _f(1.0) - _exp2_plain(let, let(horner(size, ERFC_EXPONENT)))
    t = let(x * x)
    near = horner(t, ERF_SMALL) * size + size
    return let.close(_with_sign_of(select(size > _f(0.92), far, near), x))


def _split(let: Lets, x: Expr) -> tuple[Expr, Expr]:
    """(m, e) with ``x = m * 2^e`` and ``sqrt(1/2) <= m < sqrt(2)``, for normal positive x; e is int32."""
    bits = let(_bits(x))
    e = let((bits - _i(0x3F3504F3)) >> _i(23))
    return _from_bits(bits - (e << _i(23))), e


def _log_parts(let: Lets, f: Expr) -> Expr:
    """``log(1 + f) - f`` for f in the range of LOG."""
    square = let(f * f)
    return let((square * f) * horner(f, LOG) - square * _f(0.5))


def _log_of_positive(let: Lets, x: Expr) -> tuple[Expr, Expr, Expr]:
    """(f, log(1 + f) - f, e) with ``x = (1 + f) * 2^e``; denormal x are scaled up first."""
    small = x < _f(2.0**-126)
    m, e = _split(let, let(select(small, x * _f(2.0**23), x)))
    f = let(m - _f(1.0))
    exponent = let((e - select(small, _i(23), _i(0))).astype("float32"))
    return f, _log_parts(let, f), exponent


def _log_edges(x: Expr, positive: Expr, result: Expr) -> Expr:
    """``result`` where ``positive`` is finite and above 0, which is x or 1 + x; -inf, NaN or infinity elsewhere."""
    below = select(equal(positive, 0.0), _f(-math.inf), _f(math.nan))
    return select(positive > _f(0.0), select(positive < _f(math.inf), result, x), below)


def log(x: Expr) -> Expr:
    let = Lets()
    x = let(x)
    f, rest, e = _log_of_positive(let, x)
    return let.close(_log_edges(x, x, let((f + (rest + e * _f(_LN2_LOW))) + e * _f(_LN2_HIGH))))


def _log_base(x: Expr, base: float) -> Expr:
    """The exponent's share of the logarithm is split as in ``log``; the mantissa's is ``log(m) / log(base)``."""
    let = Lets()
    x = let(x)
    f, rest, e = _log_of_positive(let, x)
    unit = math.log(2) / math.log(base)
    high = round(unit * 512) / 512
    low = e * _f(unit - high) if unit != high else None
    mantissa = let((f + rest) * _f(1 / math.log(base)))
    return let.close(_log_edges(x, x, let((mantissa if low is None else mantissa + low) + e * _f(high))))


def log2(x: Expr) -> Expr:
    return _log_base(x, 2.0)


def log10(x: Expr) -> Expr:
    return _log_base(x, 10.0)


def log1p(x: Expr) -> Expr:
    """``log(u)`` for ``u = 1 + x`` rounded, with what the rounding lost brought to u's scale and put back."""
    let = Lets()
    x = let(x)
    u = let(_as_rounded(x + _f(1.0)))
    lost = x - _as_rounded(u - _f(1.0))
    m, e = _split(let, u)
    # Above 2^100 nothing of any weight is lost, and 2^-e would leave the normal range.
    scale = _from_bits((_i(127) - select(e > _i(100), _i(100), e)) << _i(23))
    f = let((m - _f(1.0)) + lost * scale)
    e = let(e.astype(typed_like(e, "float32")))
    result = let((f + (_log_parts(let, f) + e * _f(_LN2_LOW))) + e * _f(_LN2_HIGH))
    # log1p(-0) is -0, which adding to 1 forgets.
    return let.close(select(equal(x, 0.0), x, _log_edges(x, u, result)))


def has_short_form(exponent: float) -> bool:
    """Whether ``power`` knows the exponent: few multiplications within 4 ulp."""
    return exponent in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 4.0)


def power(x: Expr, exponent: float) -> Expr:
    """``x ** exponent`` by multiplications and a square root. Raises ValueError if there is no short form."""
    if not has_short_form(exponent):
        raise ValueError(f"no short form of x ** {exponent}")
    let = Lets()
    x = let(x)
    if abs(exponent) == 0.5:
        root = _square_root(let, x)
        return let.close(root if exponent > 0 else _f(1.0) / root)
    # The inverse first: x * x may overflow where the result is no zero yet.
    base = x if exponent > 0 else let(_f(1.0) / x)
    return let.close(_product(let, base, int(abs(exponent))))


def _product(let: Lets, x: Expr, count: int) -> Expr:
    if count == 1:
        return x
    if count == 2:
        return x * x
    square = let(x * x)
    return square * (x if count == 3 else square)


def _square_root(let: Lets, x: Expr) -> Expr:
    """What ``pow(x, 0.5)`` is: as sqrt, but +0 at -0 and infinity at -infinity."""
    edge = select(equal(x, 0.0), _f(0.0), tirx.sqrt(x))
    return let(select(equal(x, -math.inf), _f(math.inf), edge))


FUNCTIONS: dict[str, Callable[[Expr], Expr]] = {
    "exp": exp,
    "exp2": exp2,
    "tanh": tanh,
    "erf": erf,
    "sigmoid": sigmoid,
    "sinh": sinh,
    "cosh": cosh,
    "log": log,
    "log2": log2,
    "log10": log10,
    "log1p": log1p,
}
"""By the name of TIR's operator, without its prefix."""
