"""Elementary functions on float32 as plain arithmetic, which LLVM compiles to vector instructions at any width.

Each takes a float32 expression, a scalar or a vector, and gives one, within 2.5 ulp over the whole range (powers: 4),
denormal results included. Edges are IEEE's: NaN stays NaN, overflow is infinity, tanh and erf keep the sign of zero.

Only operations that SSE2 has are used: rounding is done by adding and taking away 1.5 * 2^23 instead of ``floor``.
Nothing here depends on whether a multiply and an add are fused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import tirx

from .vector_exponentials import cosh, erf, exp, exp2, sigmoid, sinh, tanh
from .vector_expressions import Lets, equal, f32, select
from .vector_logarithms import log, log1p, log2, log10
from .vector_trigonometry import cos, sin

Expr = Any


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
        return let.close(root if exponent > 0 else f32(1.0) / root)
    # The inverse first: x * x may overflow where the result is no zero yet.
    base = x if exponent > 0 else let(f32(1.0) / x)
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
    edge = select(equal(x, 0.0), f32(0.0), tirx.sqrt(x))
    return let(select(equal(x, -math.inf), f32(math.inf), edge))


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
    "sin": sin,
    "cos": cos,
}
"""By the name of TIR's operator, without its prefix."""
