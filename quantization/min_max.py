"""The plainest calibrator: the range of all that was seen."""

from __future__ import annotations

import numpy as np

from .parameters import Range


class MinMax:
    """Sees arrays one after another; ``range`` is from the least to the largest element."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self.finite = True

    def see(self, array: np.ndarray) -> None:
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        self.finite = self.finite and bool(np.isfinite(low) and np.isfinite(high))
        self._low, self._high = min(self._low, low), max(self._high, high)

    def range(self) -> Range:
        """[0, 0] where nothing was seen."""
        return Range(self._low, self._high) if self._low <= self._high else Range(0.0, 0.0)
