"""Coefficients of the approximations in ``vector_math``, lowest power first, and how to evaluate them.

Made by scripts/fit_polynomials.py; the bound beside each is its largest relative error, before rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

EXP = (0.49999994, 0.16666521, 0.041668274, 0.008368686, 0.0013820136)
"""``(e^r - 1 - r) / r^2`` for ``|r| <= ln(2) / 2``: 2^-28."""

EXP2 = (0.6931472, 0.24022648, 0.055503596, 0.009618503, 0.0013390996, 0.00015327783)
"""``(2^r - 1) / r`` for ``|r| <= 1/2``: 2^-28."""

LOG = (0.3333333, -0.2500082, 0.20001242, -0.16623409, 0.1420158, -0.1315961, 0.12762217, -0.07636439)
"""``(log(1 + f) - f + f^2 / 2) / f^3`` for ``sqrt(1/2) <= 1 + f <= sqrt(2)``: 2^-27, of the logarithm."""

TANH_SMALL = (-0.3333328, 0.13331407, -0.053736784, 0.020629475, -0.0056941863)
"""``(tanh(x) / x - 1) / x^2`` over ``x^2``, ``|x| <= 0.625``: 2^-27, of tanh."""

SINH_SMALL = (0.16666716, 0.008330271, 0.00020373333)
"""``(sinh(x) / x - 1) / x^2`` over ``x^2``, ``|x| <= 1``: 2^-25, of sinh."""

ERF_SMALL = (0.12837915, -0.37612498, 0.11281843, -0.026767304, 0.004993955, -0.00059940206)
"""``erf(x) / x - 1`` over ``x^2``, ``|x| <= 0.92``: 2^-25, of erf."""

ERFC_EXPONENT = (-0.0028149437, -1.615725, -0.93934184, -0.13111146, 0.022368882, -0.0017921635)
"""``log2(erfc(x))`` for ``0.92 <= x <= 4``: 2^-25, of ``1 - erfc``."""

SIN = (-0.16666655, 0.008332187, -0.00019517908)
"""``(sin(r) / r - 1) / r^2`` over ``r^2``, ``|r| <= pi / 4``: 2^-27, of sin."""

COS = (0.041666646, -0.001388731, 2.443233e-05)
"""``(cos(r) - 1 + r^2 / 2) / r^4`` over ``r^2``, ``|r| <= pi / 4``: below 2^-30, of cos."""


def horner(x: Any, coefficients: Sequence[float]) -> Any:
    """The polynomial's value as a float32 expression; each step is one fused multiply-add where the target has it."""
    result = tirx.const(coefficients[-1], "float32")
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + tirx.const(coefficient, "float32")
    return result
