"""Det against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(5)


def _case(x: np.ndarray, dims: str):
    return case("Det", x, dims=dims, expected=np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype))


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_against_numpy(dims):
    shapes = [(1, 1), (2, 2), (5, 5), (3, 4, 4), (2, 1, 3, 3), (0, 3, 3), (2, 17, 17)]
    cases = [_case(RNG.standard_normal(shape).astype(np.float32), dims) for shape in shapes]
    cases.append(_case(RNG.standard_normal((4, 6, 6)), dims))
    check_cases(cases, rtol=1e-4, atol=1e-5, opset=22)


def test_pivots_and_singular_matrices():
    special = np.stack(
        [
            [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
            [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
            [[1, 2, 3], [2, 4, 6], [1, 1, 1]],
            [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
        ]
    ).astype(np.float32)
    cases = [_case(special, "fixed"), case("Det", np.zeros((2, 0, 0), np.float32), expected=np.ones(2, np.float32))]
    check_cases(cases, opset=22)


def test_refusals():
    with pytest.raises(ConversionError, match="the rows and columns of a matrix must agree, found 2 and 3"):
        check_cases([case("Det", np.zeros((2, 3), np.float32), expected=[np.float32(0)])], opset=22)
