"""MaxRoiPool against ONNX Runtime: scales, rois inside, across borders, far outside and empty."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(19)
X = RNG.standard_normal((2, 3, 9, 7)).astype(np.float32)
ROIS = np.array(
    [[0, 0, 0, 4, 5], [1, 1.2, 2.5, 6, 8], [1, 3, 3, 3, 3], [0, -2, -1, 9, 12], [0, 40, 40, 50, 50], [1, 5, 5, 2, 2]],
    np.float32,
)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_against_runtime(dims: str) -> None:
    cases = [
        by_runtime(case("MaxRoiPool", X, ROIS, pooled_shape=shape, spatial_scale=scale, dims=dims))
        for shape in ([1, 1], [3, 2], [8, 9])
        for scale in (1.0, 0.7)
    ]
    cases.append(case("MaxRoiPool", X, ROIS[:0], pooled_shape=[2, 2], dims=dims, expected=np.zeros((0, 3, 2, 2), "f")))
    check_cases(cases)


def test_rois_that_are_no_numbers_read_nothing_outside() -> None:
    odd = ROIS[:3].copy()
    odd[0, 1:] = np.nan
    odd[1, 0], odd[1, 3] = 7, np.inf
    odd[2] = [-3, -3e38, -3e38, 3e38, 3e38]
    whole = X.max((2, 3))
    expected = by_runtime(case("MaxRoiPool", X, np.array([[1, 1.2, 2.5, 6, 8]], "f"), pooled_shape=[1, 1]))
    assert expected.expected is not None
    wanted = np.stack([np.zeros(3, np.float32), expected.expected[0][0, :, 0, 0], whole[0]])
    check_cases([case("MaxRoiPool", X, odd, pooled_shape=[1, 1], expected=wanted[..., None, None])])


def test_refusals() -> None:
    with pytest.raises(ConversionError, match="the numbers of a roi and 5 must agree, found 4 and 5"):
        check_cases([case("MaxRoiPool", X, ROIS[:, 1:], pooled_shape=[1, 1], expected=X)])
