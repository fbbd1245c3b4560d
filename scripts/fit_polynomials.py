"""Fit the minimax polynomials of schedules/polynomials.py and print them: python scripts/fit_polynomials.py

Lawson's algorithm (C. L. Lawson, 1961): weighted least squares, the weights multiplied by each point's error until all
extrema are level. Coefficients are rounded to float32 one after the other, the rest fitted again to make up for it.
Needs NumPy alone; a printed bound is the largest relative error in units of 2^-24, before the rounding of arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def lawson(basis: Array, target: Array, weight: Array, rounds: int = 150) -> Array:
    """Coefficients ``c`` that minimise ``max(weight * |basis @ c - target|)``; ``basis`` is (points, coefficients)."""
    level = np.full(len(target), 1 / len(target))
    best, coefficients = np.inf, np.zeros(basis.shape[1])
    for _ in range(rounds):
        scale = np.sqrt(level) * weight
        trial = np.linalg.lstsq(basis * scale[:, None], target * scale, rcond=None)[0]
        error = weight * np.abs(basis @ trial - target)
        if error.max() < best:
            best, coefficients = error.max(), trial
        level = level * error / error.max()
        level = level / level.sum() + 1e-16
    return coefficients


def rounded(basis: Array, target: Array, weight: Array) -> tuple[list[float], float]:
    """The minimax coefficients as float32 values, lowest first, and the largest weighted error."""
    result: list[float] = []
    while basis.shape[1]:
        first = float(np.float32(lawson(basis, target, weight)[0]))
        result.append(first)
        target = target - basis[:, 0] * first
        basis = basis[:, 1:]
    return result, float((weight * np.abs(target)).max())


def powers(x: Array, start: int, count: int) -> Array:
    return np.stack([x ** (start + i) for i in range(count)], axis=1)


def chebyshev_points(low: float, high: float, count: int = 4001) -> Array:
    points = low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, count))) / 2
    return points[np.abs(points) > 1e-4]


def show(name: str, coefficients: list[float], bound: float) -> None:
    print(f"{name} = (  # {bound * 2**24:.2f} * 2^-24")
    for c in coefficients:
        print(f"    {np.float32(c)!s},")
    print(")")


def main() -> None:
    half = math.log(2) / 2 * 1.001
    r = chebyshev_points(-half, half)
    show("EXP", *rounded(powers(r, 2, 5), np.expm1(r) - r, np.exp(-r)))
    r = chebyshev_points(-0.5005, 0.5005)
    show("EXP2", *rounded(powers(r, 1, 6), np.exp2(r) - 1, np.exp2(-r)))
    r = chebyshev_points(math.sqrt(0.5) - 1, math.sqrt(2) - 1)
    show("LOG", *rounded(powers(r, 3, 8), np.log1p(r) - r + r * r / 2, 1 / np.abs(np.log1p(r))))
    x = chebyshev_points(0, 0.626)
    show("TANH_SMALL", *rounded(powers(x, 2, 10)[:, ::2], np.tanh(x) / x - 1, x / np.tanh(x)))
    x = chebyshev_points(0, 1.001)
    show("SINH_SMALL", *rounded(powers(x, 2, 6)[:, ::2], np.sinh(x) / x - 1, x / np.sinh(x)))
    x = chebyshev_points(0, 0.922)
    erf = np.array([math.erf(v) for v in x])
    show("ERF_SMALL", *rounded(powers(x, 0, 12)[:, ::2], erf / x - 1, x / erf))
    x = chebyshev_points(0.918, 4)
    erfc = np.array([math.erfc(v) for v in x])
    # An error of the exponent of erfc shows in erf as that error times erfc.
    show("ERFC_EXPONENT", *rounded(powers(x, 0, 6), np.log2(erfc), erfc * math.log(2) / (1 - erfc)))
    x = chebyshev_points(0, math.pi / 4 * 1.001)
    show("SIN", *rounded(powers(x, 2, 6)[:, ::2], np.sin(x) / x - 1, x / np.sin(x)))
    x = x[x > 0.02]  # below, 1 - cos has no digits left in float64, and r^4 no weight
    show("COS", *rounded(powers(x, 4, 6)[:, ::2], np.cos(x) - 1 + x * x / 2, 1 / np.cos(x)))


if __name__ == "__main__":
    main()
