"""From what was seen of a value to the range that its 256 integers cover.

A wider range clips less and rounds more coarsely. All ranges hold 0, and none is wider than what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from .histogram import BINS, Histogram
from .min_max import MinMax
from .parameters import LEVELS, Range

PERCENTILE = 99.99

CANDIDATES = 64
"""Ends of ranges that are tried, for each side."""


class Observer(Protocol):
    """Sees a value's arrays one after another."""

    finite: bool

    def see(self, array: np.ndarray) -> None: ...

    def range(self) -> Range: ...


class HistogramObserver(Histogram):
    """A histogram with a rule that chooses the range."""

    def __init__(self, choose: Callable[[Histogram], Range]):
        super().__init__()
        self._choose = choose

    def range(self) -> Range:
        if self.low > self.high or not self.radius:
            return Range(0.0, 0.0)
        chosen = self._choose(self).with_zero()
        return Range(max(chosen.low, min(self.low, 0.0)), min(chosen.high, max(self.high, 0.0)))


def percentile_range(seen: Histogram) -> Range:
    """What holds PERCENTILE percent of all elements: as many are cut off below as above, where there are any."""
    counts = seen.counts.astype(np.float64)
    counts[BINS // 2] += seen.zeros
    below = np.cumsum(counts)
    cut = (1 - PERCENTILE / 100) * below[-1] / (2 if seen.low < 0 < seen.high else 1)
    edges = seen.edges
    low = edges[np.searchsorted(below, cut, side="right")] if seen.low < 0 else 0.0
    high = edges[np.searchsorted(below, below[-1] - cut) + 1] if seen.high > 0 else 0.0
    return Range(float(min(low, 0.0)), float(max(high, 0.0)))


def least_squares_range(seen: Histogram) -> Range:
    """The least mean squared error: what is clipped, from the histogram, and what is rounded, by Bennett's noise model.

    As in Banner et al., https://arxiv.org/abs/1810.05723.
    """
    lows = np.linspace(0, 1, CANDIDATES + 1)[1:] * seen.low if seen.low < 0 else np.zeros(1)
    highs = np.linspace(0, 1, CANDIDATES + 1)[1:] * seen.high if seen.high > 0 else np.zeros(1)
    clipped = np.add.outer(_clipped_below(seen, lows), _clipped_below(_mirrored(seen), -highs))
    step = (highs[None, :] - lows[:, None]) / LEVELS
    error = clipped + _rounded(seen, step)
    i, j = np.unravel_index(np.argmin(error), error.shape)
    return Range(float(lows[i]), float(highs[j]))


def _clipped_below(seen: Histogram, ends: np.ndarray) -> np.ndarray:
    """The sum of (end - x)**2 over all x below each end."""
    centres, counts = seen.centres, seen.counts.astype(np.float64)
    moments = [np.concatenate([[0.0], np.cumsum(counts * centres**power)]) for power in range(3)]
    below = np.searchsorted(centres, ends)
    return moments[0][below] * ends**2 - 2 * ends * moments[1][below] + moments[2][below]


def _rounded(seen: Histogram, step: np.ndarray) -> np.ndarray:
    """The sum of squared rounding errors: step**2 / 12 each; x**2 of what lies nearer to 0 than to any other level."""
    half = BINS // 2
    magnitudes = (seen.counts[:half][::-1] + seen.counts[half:]).astype(np.float64)
    centres = seen.centres[half:]
    near = np.searchsorted(centres, step / 2)
    counts = np.concatenate([[0.0], np.cumsum(magnitudes)])
    squares = np.concatenate([[0.0], np.cumsum(magnitudes * centres**2)])
    return squares[near] + (counts[-1] - counts[near]) * step**2 / 12


def _mirrored(seen: Histogram) -> Histogram:
    other = Histogram()
    other.counts, other.radius = seen.counts[::-1], seen.radius
    return other


def entropy_range(seen: Histogram) -> Range:
    """The bound on magnitudes with the least Kullback-Leibler divergence of quantized from clipped distribution.

    Migacz, "8-bit inference with TensorRT" (GTC 2017). Values of one sign have all the levels, others half of them.
    """
    half = BINS // 2
    negative, positive = seen.counts[:half][::-1], seen.counts[half:]
    magnitudes = (negative + positive).reshape(-1, 2).sum(axis=1).astype(np.float64)
    levels = LEVELS if seen.low >= 0 or seen.high <= 0 else LEVELS // 2
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    ends = range(min(levels, used), used + 1, max(1, used // 256))
    best = min([*ends, used], key=lambda end: _divergence(magnitudes, end, levels))
    bound = seen.radius * best / magnitudes.size
    return Range(max(-bound, min(seen.low, 0.0)), min(bound, max(seen.high, 0.0)))


def _divergence(magnitudes: np.ndarray, end: int, levels: int) -> float:
    """Of the first ``end`` bins, with all that lies beyond in the last, from what ``levels`` steps make of them."""
    kept = magnitudes[:end]
    clipped = kept.copy()
    clipped[-1] += magnitudes[end:].sum()
    step = np.minimum(np.arange(end) * levels // end, levels - 1)
    filled = (kept > 0).astype(np.float64)
    sums, places = np.bincount(step, kept, levels), np.bincount(step, filled, levels)
    quantized = np.where(filled > 0, sums[step] / np.maximum(places[step], 1), 0)
    p, q = clipped / clipped.sum(), quantized / max(quantized.sum(), 1)
    # A bin that only clipping filled has no counterpart: it counts as one of the smallest that there are.
    q = np.where((p > 0) & (q == 0), 1e-9, q)
    present = p > 0
    return float((p[present] * np.log(p[present] / q[present])).sum())


CALIBRATORS: dict[str, Callable[[], Observer]] = {
    "min-max": MinMax,
    "percentile": lambda: HistogramObserver(percentile_range),
    "entropy": lambda: HistogramObserver(entropy_range),
    "mse": lambda: HistogramObserver(least_squares_range),
}
"""By the names that ``--calibrator`` takes."""
