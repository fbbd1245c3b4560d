"""Judging models that round their activations to integers while they run.

A sum that comes out 1e-7 apart may round to the other side, and a whole step goes through the layers behind: ONNX
Runtime's optimized run of such a model differs from its own unoptimized one far beyond any tolerance for floats. What
can be asked for is that outputs stay as close as roundings allow, in the mean over all elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxkiln.compare import Comparison, compare

Array = npt.NDArray[Any]


def compare_rounded(name: str, expected: Array, found: Array, limit: float) -> Comparison:
    """Within the tolerance for floats, or at most ``limit`` away in ``distance``; ``used`` is the share of either."""
    strict = compare(name, expected, found)
    if strict.problem is None or expected.dtype != found.dtype or expected.shape != found.shape:
        return strict
    away = distance(expected, found)
    problem = None if away <= limit else f"{away:.2g} away in relative RMS, the limit is {limit:.2g}"
    return Comparison(name, problem, strict.error, away / limit)


def distance(expected: Array, found: Array) -> float:
    """Floats: RMS of the difference over RMS of ``expected``, infinite where NaN or infinities differ in place.

    Integers: the share of elements that differ.
    """
    if expected.dtype.kind != "f":
        return float(np.mean(expected != found)) if expected.size else 0.0
    wanted, got = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], got[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return float("inf")
    size = float(np.linalg.norm(wanted[finite]))
    away = float(np.linalg.norm(got[finite] - wanted[finite]))
    return away / size if size else away


def largest_distance(expected: Sequence[Array], found: Sequence[Array]) -> float:
    return max(distance(a, b) for a, b in zip(expected, found, strict=True))
