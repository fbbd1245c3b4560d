"""How models are judged that round their activations."""

import numpy as np
import pytest

from zoo_check.rounding import compare_rounded, distance, largest_distance

WANTED = np.array([1.0, -2.0, 2.0], np.float32)


def judged(found, limit=0.1, wanted=WANTED):
    return compare_rounded("y", wanted, np.asarray(found, wanted.dtype), limit)


def test_the_mean_distance_counts_where_single_elements_are_off():
    assert judged([1.0, -2.0, 2.0]).used == 0
    within = judged([1.0, -2.0, 2.15])
    assert within.problem is None and within.used == pytest.approx(0.5)
    assert judged([1.0, -2.0, 2.4]).problem == "0.13 away in relative RMS, the limit is 0.1"


def test_shapes_and_dtypes_stay_strict():
    assert judged([[1.0, -2.0, 2.0]]).problem == "shape [1, 3] instead of [3]"
    assert "dtype" in compare_rounded("y", WANTED, WANTED.astype(np.float64), 0.1).problem


@pytest.mark.parametrize("found", [[np.nan, 2], [np.inf, np.nan], [1, 2]])
def test_nan_and_infinities_stay_in_place(found):
    wanted = np.array([np.inf, 2], np.float32)
    assert judged(found, wanted=wanted).problem
    assert judged([np.inf, 2.1], wanted=wanted).problem is None


def test_integers_count_by_share():
    wanted = np.arange(20)
    found = wanted.copy()
    found[3] = 0
    assert distance(wanted, found) == 0.05
    assert judged(found, 0.05, wanted).problem is None
    assert judged(found, 0.04, wanted).problem
    assert distance(wanted[:0], wanted[:0]) == 0
    assert largest_distance([wanted, WANTED], [found, WANTED]) == 0.05
