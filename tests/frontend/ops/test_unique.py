"""Unique against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Case, case, check_cases, check_model

RNG = np.random.default_rng(8)
X = RNG.integers(0, 3, (4, 6, 2)).astype(np.float32)


def _case(x: np.ndarray, dims: str, **attributes: int) -> Case:
    """ONNX's own evaluator takes along axis 0 where ``sorted`` is 0, whatever the axis."""
    axis = attributes.get("axis")
    kept, first, back, counts = np.unique(x, True, True, True, axis=axis)
    if not attributes.get("sorted", 1):
        order = np.argsort(first)
        first, counts, back = first[order], counts[order], np.argsort(order)[back]
        kept = np.take(x if axis is not None else x.reshape(-1), first, axis=axis or 0)
    wanted = [kept, first, back.reshape(-1), counts]
    return case("Unique", x, outputs=4, dims=dims, expected=wanted, **attributes)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_against_numpy(dims):
    cases = []
    for in_order in (0, 1):
        for axis in (0, 1, 2, -2):
            cases.append(_case(X, dims, axis=axis, sorted=in_order))
        for array in (X, X.astype(np.int8), X > 1, X.astype(np.float16), RNG.integers(-9, 9, 100), X[:0], X[:1, 0, 0]):
            cases.append(_case(array, dims, sorted=in_order))
    cases.append(_case(np.zeros((4, 3), np.int64), dims, axis=1))
    check_cases(cases)


def test_many():
    x = RNG.integers(0, 400, 3001)
    check_cases([_case(x, "fixed", sorted=in_order) for in_order in (0, 1)], artifact=True)


def test_bfloat16_and_nan():
    x = np.array([2, 1, 2, 0.5], ml_dtypes.bfloat16)
    kept = [np.array([0.5, 1, 2], ml_dtypes.bfloat16), np.array([3, 1, 0]), np.array([2, 1, 2, 0]), np.array([1, 1, 2])]
    odd = np.array([np.nan, 1, -np.inf, np.nan, np.inf, 1], np.float32)
    numbers = np.unique(odd, True, True, True)
    check_cases([case("Unique", x, outputs=4, expected=kept), case("Unique", odd, outputs=4, expected=list(numbers))])


def test_what_follows_knows_the_size():
    text = """<ir_version: 10, opset_import: ["" : 20]>
        f (int64[n] x) => (int64[k] doubled, int64[n] same) {
            y, first, back = Unique(x)
            doubled = Add(y, first)
            same = Gather(y, back)
        }"""
    check_model(text, [{"x": np.array(values, np.int64)} for values in ([5, 3, 5], [1], [4, 3, 2, 1], [7, 7, 7])])
