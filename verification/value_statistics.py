"""A value in a few numbers, and the place where two differ most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..compare import tolerance

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ValueStatistics:
    """``minimum``, ``maximum`` and ``mean`` are those of the finite elements; None where there are none."""

    dtype: str
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    mean: float | None
    nans: int
    infinities: int


@dataclass(frozen=True)
class Worst:
    """The element that is farthest from where it should be, measured in tolerances."""

    index: tuple[int, ...]
    expected: str
    found: str


def statistics_of(value: Array) -> ValueStatistics:
    """The statistics of an array of numbers or bools; of a complex one, those of its absolute values."""
    numbers = _plain(np.abs(value) if value.dtype.kind == "c" else value)
    finite = numbers[np.isfinite(numbers)]
    known = finite.size > 0
    return ValueStatistics(
        value.dtype.name,
        tuple(value.shape),
        minimum=float(finite.min()) if known else None,
        maximum=float(finite.max()) if known else None,
        mean=float(finite.mean()) if known else None,
        nans=int(np.isnan(numbers).sum()),
        infinities=int(np.isinf(numbers).sum()),
    )


def worst_of(expected: Array, found: Array) -> Worst | None:
    """The worst element of two arrays; None if their shapes differ, or all elements are equal."""
    if expected.shape != found.shape or not expected.size:
        return None
    if expected.dtype.kind == "c" or found.dtype.kind == "c":
        distance = np.abs(expected - found)  # type: ignore[operator]
    else:
        reference, value = _plain(expected), _plain(found)
        same = (reference == value) | (np.isnan(reference) & np.isnan(value))
        with np.errstate(invalid="ignore"):
            distance = np.where(same, 0.0, np.abs(reference - value) / tolerance(reference))
        # An infinity or a NaN in one of the two: nothing is farther off.
        distance = np.where(np.isnan(distance), np.inf, distance)
    place = int(np.argmax(distance))
    if not distance.flat[place]:
        return None
    index = tuple(int(i) for i in np.unravel_index(place, expected.shape))
    return Worst(index, str(expected[index]), str(found[index]))


def _plain(value: Array) -> npt.NDArray[np.float64]:
    return value.astype(np.float64)
