"""AffineGrid against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(3)
FLAT = RNG.standard_normal((2, 2, 3)).astype(np.float32)
SOLID = RNG.standard_normal((2, 3, 4)).astype(np.float32)
SIZES = [(FLAT, [2, 5, 3, 17]), (SOLID, [2, 1, 2, 5, 7])]


@pytest.mark.parametrize("wrap", [Const, np.array], ids=["constant", "run time"])
def test_against_reference(wrap):
    cases = [
        case("AffineGrid", theta, wrap(np.array(size)), align_corners=corners)
        for theta, size in SIZES
        for corners in (0, 1)
    ]
    check_cases(cases)


def test_one_row_with_aligned_corners_is_the_first():
    """ONNX's formula divides by 0 here; the row lies where the first of many would."""
    theta = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    wanted = np.array([[[[-1, -1], [1, -1]]]], np.float32)
    check_cases([case("AffineGrid", theta, np.array([1, 1, 1, 2]), align_corners=1, expected=wanted)])


def test_narrow_floats():
    theta = FLAT.astype(np.float16)
    size = np.array([2, 1, 4, 3])
    wanted = _grid(theta.astype(np.float64), 4, 3).astype(np.float16)
    check_cases([case("AffineGrid", theta, size, expected=wanted)])


def _grid(theta: np.ndarray, rows: int, columns: int) -> np.ndarray:
    y, x = ((2 * np.arange(size) + 1) / size - 1 for size in (rows, columns))
    base = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), -1)
    return np.einsum("nij,hwj->nhwi", theta, base)


def test_refusals():
    with pytest.raises(ConversionError, match="the batch of theta and of size must agree, found 2 and 3"):
        check_cases([case("AffineGrid", FLAT, Const(np.array([3, 1, 2, 2])), expected=FLAT)])
