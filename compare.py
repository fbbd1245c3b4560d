"""Whether two runs of a model agree, within a tolerance that grows with the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RELATIVE = 1e-3
ABSOLUTE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """One output. ``problem`` is None where it agrees; ``error`` is the largest |found - expected| of finite elements,
    ``used`` the largest share of its tolerance that an element uses up (past 1: disagrees)."""

    name: str
    problem: str | None
    error: float = 0.0
    used: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}: {self.problem or f'agrees (largest error {self.error:.2e})'}"


def tolerance(expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Per element ``1e-3 * |b| + 1e-4 * max(1, max|b|)``, b being the expected values; infinities don't widen it."""
    magnitude = np.where(np.isfinite(expected), np.abs(expected), 0.0)
    return RELATIVE * magnitude + ABSOLUTE * max(1.0, float(magnitude.max(initial=0.0)))


def compare(name: str, expected: npt.NDArray[np.generic], found: npt.NDArray[np.generic]) -> Comparison:
    """Same dtype and shape, integers equal, NaN and infinities in the same places, floats within ``tolerance``."""
    if expected.dtype != found.dtype:
        return Comparison(name, f"dtype {found.dtype} instead of {expected.dtype}")
    if expected.shape != found.shape:
        return Comparison(name, f"shape {list(found.shape)} instead of {list(expected.shape)}")
    # kind "V" covers ml_dtypes' bfloat16 and float8, which NumPy doesn't count among its own floats.
    if expected.dtype.kind not in "fVc":
        different = np.flatnonzero((expected != found).ravel())
        problem = _first(different, expected, found) if different.size else None
        return Comparison(name, problem, used=float(different.size))
    if expected.dtype.kind == "c":
        parts = [compare(name, part(expected), part(found)) for part in (np.real, np.imag)]
        return max(parts, key=lambda part: (part.problem is not None, part.used))
    return _compare_floats(name, expected, found)


def _compare_floats(name: str, expected: npt.NDArray[np.generic], found: npt.NDArray[np.generic]) -> Comparison:
    reference, value = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(reference) & np.isfinite(value)
    same = (reference == value) | (np.isnan(reference) & np.isnan(value))
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(value - reference), np.where(same, 0.0, np.inf))
    used = error / tolerance(reference)
    different = np.flatnonzero((used > 1).ravel())
    largest = float(np.max(error, initial=0.0, where=finite))
    problem = _first(different, expected, found) if different.size else None
    return Comparison(name, problem, largest, float(used.max(initial=0.0)))


def _first(different: npt.NDArray[np.intp], expected: npt.NDArray[np.generic], found: npt.NDArray[np.generic]) -> str:
    index = tuple(int(i) for i in np.unravel_index(different[0], expected.shape))
    return (
        f"{different.size} of {expected.size} elements differ, the first at {list(index)}: "
        f"{found[index]} instead of {expected[index]}"
    )


def compare_all(
    names: Sequence[str], expected: Sequence[npt.NDArray[np.generic]], found: Sequence[npt.NDArray[np.generic]]
) -> list[Comparison]:
    """One comparison per output; a different number of outputs is a problem of its own."""
    if len(expected) != len(found):
        return [Comparison("outputs", f"{len(found)} outputs instead of {len(expected)}")]
    return [compare(name, np.asarray(a), np.asarray(b)) for name, a, b in zip(names, expected, found, strict=True)]
