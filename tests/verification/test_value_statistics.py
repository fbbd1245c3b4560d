"""Numbers about values: finite ones, NaN and infinities, empty ones, and the element that is farthest off."""

import ml_dtypes
import numpy as np
import pytest

from onnxkiln.verification.value_statistics import statistics_of, worst_of


def test_statistics_leave_out_what_is_not_finite():
    found = statistics_of(np.array([[1, np.nan, 3], [np.inf, -np.inf, 5]], np.float32))
    assert (found.minimum, found.maximum, found.mean) == (1, 5, 3)
    assert (found.nans, found.infinities, found.shape, found.dtype) == (1, 2, (2, 3), "float32")


@pytest.mark.parametrize("value", [np.zeros((0, 3), np.float32), np.full(2, np.nan)])
def test_without_finite_elements_there_are_no_numbers(value):
    found = statistics_of(value)
    assert (found.minimum, found.maximum, found.mean) == (None, None, None)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8, np.float16, ml_dtypes.bfloat16, np.complex64])
def test_every_kind_of_number_is_taken(dtype):
    found = statistics_of(np.array([1, 0, 1, 1]).astype(dtype))
    assert (found.minimum, found.maximum, found.mean) == (0, 1, 0.75)


def test_the_worst_is_measured_in_tolerances():
    # Off by 1 of 1000 is nearly allowed; off by 0.2 of 0 is not.
    worst = worst_of(np.array([[1000.0, 0.0]]), np.array([[1001.0, 0.2]]))
    assert (worst.index, worst.expected, worst.found) == ((0, 1), "0.0", "0.2")


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_nothing_is_worse_than_nan_or_infinity(odd):
    assert worst_of(np.array([1.0, 2.0, 3.0]), np.array([9.0, odd, 3.0])).index == (1,)
    assert worst_of(np.array([1.0, odd, 3.0]), np.array([9.0, 2.0, 3.0])).index == (1,)
    assert worst_of(np.array([odd, 1.0]), np.array([odd, 1.5])).index == (1,)


def test_integers_and_scalars():
    assert worst_of(np.array([1, 5, 9]), np.array([1, 7, 10])).index == (1,)
    assert worst_of(np.array(1.0), np.array(2.0)).index == ()


def test_equal_or_incomparable_values_have_no_worst():
    assert worst_of(np.ones(3), np.ones(3)) is None
    assert worst_of(np.ones(3), np.ones(4)) is None
    assert worst_of(np.ones(0), np.ones(0)) is None
