"""GridSample against the reference evaluator: all modes, positions inside and far outside."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx_check import Case, case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(20)
FLAT = RNG.standard_normal((2, 2, 5, 7)).astype(np.float32), (RNG.random((2, 4, 3, 2)) * 5 - 2.5).astype(np.float32)
SOLID = (
    RNG.standard_normal((1, 2, 3, 4, 5)).astype(np.float32),
    (RNG.random((1, 2, 1, 3, 3)) * 3 - 1.5).astype(np.float32),
)
LINE = RNG.standard_normal((2, 1, 6)).astype(np.float32), (RNG.random((2, 5, 1)) * 4 - 2).astype(np.float32)
FORMS = list(itertools.product(("zeros", "border", "reflection"), (0, 1)))


def _case(
    x: np.ndarray, grid: np.ndarray, mode: str, padding: str, corners: int, dims: str = "fixed", **more: Any
) -> Case:
    return case("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=corners, dims=dims, **more)


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_against_reference(mode: str, dims: str) -> None:
    cases = [_case(*FLAT, mode, *form, dims) for form in (FORMS if dims == "fixed" else FORMS[:5:2])]
    if mode != "cubic" and dims == "fixed":
        cases += [_case(*pair, mode, *form, dims) for form in FORMS for pair in (SOLID, LINE)]
    check_cases(cases, rtol=1e-4, atol=1e-4)


def test_whole_compiler_and_old_names() -> None:
    cases = [by_runtime(_case(*FLAT, mode, "reflection", 0), 16) for mode in ("bilinear", "bicubic")]
    check_cases(cases, opset=16, rtol=1e-4, atol=1e-4, artifact=True)


def test_other_floats() -> None:
    x, grid = FLAT
    wide = [array.astype(np.float64) for array in FLAT]
    narrow = case("GridSample", x.astype(np.float16), grid.astype(np.float16) / 4)
    check_cases([case("GridSample", *wide), narrow], rtol=1e-4, atol=1e-4)


def test_no_image_is_left_for_wild_positions() -> None:
    """Infinite ones, huge ones and those that are no numbers read nothing out of bounds."""
    x = np.ones((1, 1, 3, 3), np.float32)
    wild = np.array([[[[np.nan, 0], [np.inf, -np.inf], [1e30, -1e30], [0, 3e38]]]], np.float32)
    nothing = np.zeros((1, 1, 1, 4), np.float32)
    check_cases([_case(x, wild, mode, "zeros", 0, expected=nothing) for mode in ("linear", "nearest", "cubic")])
    check_cases([_case(x, wild[:, :, 1:], mode, "border", 0, expected=x[:, :, :1]) for mode in ("linear", "nearest")])


def test_one_element_with_aligned_corners() -> None:
    x, grid = np.full((1, 1, 1, 1), 4.0, np.float32), np.array([[[[0.3, -5.0]]]], np.float32)
    check_cases([_case(x, grid, mode, "reflection", 1, expected=x) for mode in ("linear", "nearest", "cubic")])


def test_refusals() -> None:
    with pytest.raises(ConversionError, match="a position's numbers and the spatial dims must agree, found 2 and 3"):
        check_cases([_case(FLAT[0], np.zeros((2, 1, 1, 3), np.float32), "linear", "zeros", 0, expected=FLAT[0])])
