"""How often values of each size were seen, in bounded memory and one pass."""

from __future__ import annotations

import numpy as np

BINS = 8192
"""An even number: bin BINS/2 begins at 0."""


class Histogram:
    """``counts`` over ``BINS`` equal bins of [-radius, radius]; ``zeros`` were exactly 0 and are in no bin.

    A value outside doubles the radius until it fits: two bins become one, and nothing that was seen is lost.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.radius = 0.0
        self.low, self.high = np.inf, -np.inf
        self.finite = True

    def see(self, array: np.ndarray) -> None:
        """Count every element; ``finite`` turns False, and nothing is counted, where one is NaN or infinite."""
        if not array.size or not self.finite:
            return
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            self.finite = False
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        values = array[array != 0].astype(np.float64)
        self.zeros += array.size - values.size
        if values.size:
            self._make_room(max(-low, high))
            self.counts += np.histogram(values, BINS, (-self.radius, self.radius))[0]

    def _make_room(self, largest: float) -> None:
        if not self.radius:
            self.radius = largest
        while self.radius < largest:
            merged = np.zeros_like(self.counts)
            merged[BINS // 4 : 3 * BINS // 4] = self.counts[0::2] + self.counts[1::2]
            self.counts, self.radius = merged, 2 * self.radius

    @property
    def edges(self) -> np.ndarray:
        """The BINS + 1 borders of the bins."""
        return np.linspace(-self.radius, self.radius, BINS + 1)

    @property
    def centres(self) -> np.ndarray:
        edges = self.edges
        return (edges[1:] + edges[:-1]) / 2

    @property
    def total(self) -> int:
        return int(self.counts.sum()) + self.zeros
