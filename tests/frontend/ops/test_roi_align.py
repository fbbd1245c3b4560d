"""RoiAlign against ONNX Runtime: scales, samplings, boxes of every kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx_check import case, check_cases, joined, run
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(10)
X = RNG.standard_normal((2, 3, 9, 7)).astype(np.float32)
ROIS = np.array([[0, 0, 4, 5], [1.2, 2.3, 6, 8], [3, 3, 3.1, 3.1], [-2, -1, 9, 12], [40, 40, 50, 50]], np.float32)
BATCHES = np.array([0, 1, 1, 0, 0])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_against_runtime(dims):
    modes = itertools.product(("half_pixel", "output_half_pixel"), (0, 2), (1.0, 0.7))
    cases = [
        by_runtime(
            case("RoiAlign", X, ROIS, BATCHES, dims=dims, coordinate_transformation_mode=mode, sampling_ratio=ratio,
                 spatial_scale=scale, output_height=3, output_width=2)
        )
        for mode, ratio, scale in modes
    ]  # fmt: skip
    cases.append(case("RoiAlign", X, ROIS[:0], BATCHES[:0], dims=dims, expected=np.zeros((0, 3, 1, 1), np.float32)))
    check_cases(cases, atol=1e-5)


def test_largest_weighted_element():
    """ONNX's mode "max", by its reference evaluator: ONNX Runtime has none for the newer opsets."""
    modes = itertools.product(("half_pixel", "output_half_pixel"), (0, 2), (1.0, 0.7))
    cases = [
        case("RoiAlign", X, ROIS, BATCHES, mode="max", coordinate_transformation_mode=mode, sampling_ratio=ratio,
             spatial_scale=scale, output_height=3, output_width=2)
        for mode, ratio, scale in modes
    ]  # fmt: skip
    check_cases([*cases, case("RoiAlign", -np.abs(X), ROIS, BATCHES, mode="max")], atol=1e-5)


def test_batches_out_of_range_are_clamped():
    far = np.array([7, -9, 1, 0, 0])
    near = by_runtime(case("RoiAlign", X, ROIS, np.array([1, 0, 1, 0, 0])))
    check_cases([case("RoiAlign", X, ROIS, far, expected=list(near.expected))], atol=1e-5)


def test_boxes_that_are_no_numbers_read_nothing_outside():
    odd = np.array([[np.nan, 0, 4, 5], [0, np.nan, np.nan, np.nan], [-3e38, 0, 3e38, 5]], np.float32)
    (result,) = run(joined([case("RoiAlign", X, odd, BATCHES[:3], sampling_ratio=2, expected=X)], 20)[0], feeds(odd))
    assert result.shape == (3, 3, 1, 1)


def feeds(rois: np.ndarray) -> dict:
    return {"c0_x0": X, "c0_x1": rois, "c0_x2": BATCHES[: len(rois)]}


def test_refusals():
    with pytest.raises(ConversionError, match="mode 'min' is neither avg nor max"):
        check_cases([case("RoiAlign", X, ROIS, BATCHES, mode="min", expected=X)])
