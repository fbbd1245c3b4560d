"""The tolerance that decides whether compiled code is right."""

import numpy as np
import pytest

from onnxkiln.compare import compare, compare_all, tolerance


def floats(*values):
    return np.array(values, np.float32)


def test_tolerance_is_the_stated_formula():
    assert tolerance(np.array([0.0, -2.0])) == pytest.approx([2e-4, 2e-3 + 2e-4])
    assert tolerance(np.array([0.0, 0.5])) == pytest.approx([1e-4, 5e-4 + 1e-4])


def test_infinities_do_not_widen_the_tolerance():
    assert tolerance(np.array([np.inf, 0.0])) == pytest.approx([1e-4, 1e-4])


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (floats(1, 2), floats(1.0005, 2)),
        (floats(np.nan, np.inf, -np.inf), floats(np.nan, np.inf, -np.inf)),
        (floats(), floats()),
        (np.array([1, 2], np.int64), np.array([1, 2], np.int64)),
        (np.array(True), np.array(True)),
    ],
)
def test_agrees(expected, found):
    assert compare("y", expected, found).problem is None


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        (floats(1, 2), floats(1, 2.01), "1 of 2 elements differ, the first at [1]"),
        (floats(np.nan, 1), floats(1, 1), "first at [0]"),
        (floats(1, 1), floats(np.nan, 1), "first at [0]"),
        (floats(np.inf), floats(-np.inf), "first at [0]"),
        (floats(1e30), floats(np.inf), "first at [0]"),
        (floats(1), np.array([1], np.float64), "dtype float64 instead of float32"),
        (floats(1), floats(1).reshape(1, 1), "shape [1, 1] instead of [1]"),
        (np.array([5], np.int64), np.array([6], np.int64), "6 instead of 5"),
        (np.array([True]), np.array([False]), "differ"),
    ],
)
def test_disagrees(expected, found, words):
    comparison = compare("y", expected, found)
    assert comparison.problem is not None
    assert words in comparison.problem


def test_the_error_is_the_largest_finite_one():
    assert compare("y", floats(1, np.inf), floats(1.25, np.inf)).error == pytest.approx(0.25)


def test_a_missing_output_is_reported():
    assert "1 outputs instead of 2" in str(compare_all(["a", "b"], [floats(1), floats(2)], [floats(1)])[0])
