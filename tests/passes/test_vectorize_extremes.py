"""Maxima and minima of rows become vectors, and keep NaN and infinities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_cases import Kernels
from pass_graphs import data, imported, operators

from onnxkiln.passes.vectorize_extremes import vectorize_extremes

MODEL = """<ir_version: 10, opset_import: ["": 20]>
extremes (float[n, {length}] x) => (float[n, 1] y, float[n] z) <int64[1] axes = {{{axis}}}> {{
    y = ReduceMax (x, axes)
    z = ReduceMin <keepdims: int = 0> (x, axes)
}}"""


def extremes(folder: Path, length: int, axis: int = -1):
    return imported(MODEL.format(length=length, axis=axis), folder)


def test_reductions_over_the_last_axis_are_relax_operators(tmp_path: Path) -> None:
    before = extremes(tmp_path, 37)
    assert operators(before) == ["call_tir reduce_max", "call_tir reduce_min"]
    after, count = vectorize_extremes(before)
    assert count == 2 and operators(after) == ["max", "min"]


@pytest.mark.parametrize(("length", "axis"), [(37, 0), (1, -1)])
def test_other_axes_and_single_elements_are_left_alone(tmp_path: Path, length: int, axis: int) -> None:
    text = MODEL.format(length=length, axis=axis)
    if axis == 0:
        text = text.replace("float[n, 1] y, float[n] z", "float[1, 37] y, float[37] z")
    after, count = vectorize_extremes(imported(text, tmp_path))
    assert count == 0 and {"call_tir reduce_max", "call_tir reduce_min"} <= set(operators(after))


@pytest.mark.parametrize("length", [1, 5, 16, 37, 131])
def test_numbers_infinities_and_nan(tmp_path: Path, length: int) -> None:
    kernels = Kernels(extremes(tmp_path, length))
    x = data(7, length)
    x[1], x[2], x[3, length // 2], x[4, -1] = -np.inf, np.inf, np.nan, -np.nan
    largest, smallest = kernels(x)
    np.testing.assert_array_equal(largest, x.max(-1, keepdims=True))
    np.testing.assert_array_equal(smallest, x.min(-1))
    assert length < 16 or all(report.vectorized for report in kernels.reports)
