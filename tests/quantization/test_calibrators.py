"""Ranges from what was seen, against direct computation on all of it."""

import numpy as np
import pytest
from quantized_models import noise

from onnxkiln.quantization.calibrators import CALIBRATORS
from onnxkiln.quantization.histogram import BINS, Histogram
from onnxkiln.quantization.parameters import Range, affine_of


def seen_by(name, *arrays):
    observer = CALIBRATORS[name]()
    for array in arrays:
        observer.see(array)
    assert observer.finite
    return observer.range()


def squared_error(values, bounds):
    affine = affine_of(bounds)
    integers = np.clip(np.rint(values / affine.scale) + affine.zero, 0, 255)
    return np.square((integers - affine.zero) * affine.scale - values.astype(np.float64)).mean()


def heavy(size=40_000):
    """Mostly near 0, with a long tail on both sides."""
    return (noise(size) ** 5).astype(np.float32)


SAMPLES = {
    "normal": noise(50_000),
    "one-sided": np.maximum(noise(50_000), 0),
    "heavy": heavy(),
    "shifted": noise(20_000) + 3,
    "negative": -np.abs(noise(9_000)),
}


def test_min_max_is_the_whole_range():
    assert seen_by("min-max", noise(5), np.array([7.5], np.float32), np.zeros((0, 3), np.float32)).high == 7.5


def test_a_histogram_that_grows_counts_all_and_in_the_right_places():
    values = np.concatenate([noise(1000) * 10.0**power for power in range(-3, 4)]).astype(np.float32)
    histogram = Histogram()
    for part in np.split(values, 7):
        histogram.see(part)
    histogram.see(np.zeros(17, np.float32))
    assert (histogram.total, histogram.zeros) == (7017, 17)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    expected = np.histogram(values.astype(np.float64), BINS, (-histogram.radius, histogram.radius))[0]
    assert np.abs(np.cumsum(histogram.counts - expected)).max() <= 2  # borders of bins are rounded


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_ranges_hold_zero_and_are_no_wider_than_what_was_seen(name, kind):
    values = SAMPLES[kind]
    found = seen_by(name, *np.array_split(values, 5))
    assert found.low <= 0 <= found.high or name == "min-max"
    assert found.low >= min(values.min(), 0)
    assert found.high <= max(values.max(), 0)
    assert affine_of(found).scale > 0


@pytest.mark.parametrize("kind", SAMPLES)
def test_percentiles_are_those_of_all_elements(kind):
    values = SAMPLES[kind]
    found = seen_by("percentile", values)
    outside = np.mean((values < found.low) | (values > found.high))
    assert outside <= 1.0e-4 + 2 / values.size
    tight = Range(found.low * 0.9, found.high * 0.9)
    assert np.mean((values < tight.low) | (values > tight.high)) > outside


@pytest.mark.parametrize("kind", SAMPLES)
def test_least_squares_beats_all_that_was_tried(kind):
    values = SAMPLES[kind]
    found = squared_error(values, seen_by("mse", values))
    whole = Range(float(values.min()), float(values.max())).with_zero()
    shrunk = [Range(whole.low * a, whole.high * b) for a in np.linspace(0.05, 1, 20) for b in np.linspace(0.05, 1, 20)]
    assert found <= min(squared_error(values, bounds) for bounds in shrunk) * 1.05


def test_entropy_cuts_a_long_tail_and_leaves_an_even_range_alone():
    tail = heavy()
    assert seen_by("entropy", tail).high < 0.8 * tail.max()
    even = np.linspace(-1, 1, 100_001, dtype=np.float32)
    assert seen_by("entropy", even).high > 0.97


@pytest.mark.parametrize("name", CALIBRATORS)
def test_what_gives_no_range(name):
    assert seen_by(name) == seen_by(name, np.zeros(9, np.float32)) == Range(0, 0)
    for bad in (np.nan, np.inf):
        observer = CALIBRATORS[name]()
        observer.see(np.array([1, bad], np.float32))
        observer.see(np.ones(2, np.float32))
        assert not observer.finite
    single = seen_by(name, np.array([2.5], np.float32)).with_zero()
    assert single.low == 0
    assert single.high == pytest.approx(2.5, rel=0.02)
