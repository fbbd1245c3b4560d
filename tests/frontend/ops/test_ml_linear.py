"""ai.onnx.ml's linear models against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_check import Case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(16)
X = RNG.standard_normal((6, 4)).astype(np.float32)
WEIGHTS = [float(w) for w in RNG.standard_normal(12)]
SHIFTS = [0.1, -0.2, 0.3]


def _case(op_type: str, x: np.ndarray, outputs: int = 1, dims: str = "fixed", **attributes: Any) -> Case:
    return Case(op_type, [x], attributes, outputs, dims, attributes.pop("expected", None), "ai.onnx.ml")


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_regressor(dims: str) -> None:
    cases = [
        _case("LinearRegressor", X, dims=dims, coefficients=WEIGHTS[:4], intercepts=SHIFTS[:1]),
        _case("LinearRegressor", X, dims=dims, coefficients=WEIGHTS, intercepts=SHIFTS, targets=3),
        _case("LinearRegressor", X, dims=dims, coefficients=WEIGHTS[:8], targets=2),
    ]
    check_cases([by_runtime(case) for case in cases], opset=18)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_classifier(transform: str) -> None:
    three = {"coefficients": WEIGHTS, "intercepts": SHIFTS, "classlabels_ints": [4, 7, -2]}
    two = {"coefficients": WEIGHTS[:8], "intercepts": SHIFTS[:2], "classlabels_ints": [0, 1]}
    cases = [_case("LinearClassifier", X, 2, **more, post_transform=transform) for more in (three, two)]
    cases.append(_case("LinearClassifier", (X * 5).astype(np.int64), 2, **three, post_transform=transform))
    if transform == "LOGISTIC":
        one = {"coefficients": WEIGHTS[:4], "intercepts": SHIFTS[:1], "classlabels_ints": [5, 7]}
        cases.append(_case("LinearClassifier", X, 2, **one, post_transform=transform))
    check_cases([by_runtime(case) for case in cases], opset=18, rtol=1e-5)


def test_probit() -> None:
    chances = RNG.random((5, 2)).astype(np.float32)
    case = _case("LinearClassifier", chances, 2, coefficients=[1.0, 0, 0, 1.0], classlabels_ints=[0, 1],
                 intercepts=[0.0, 0.0], post_transform="PROBIT")  # fmt: skip
    check_cases([by_runtime(case)], opset=18, rtol=1e-4)


def test_refusals() -> None:
    wanted = [np.zeros(6, np.int64), np.zeros((6, 2), np.float32)]
    with pytest.raises(ConversionError, match="mean different things to different runtimes"):
        check_cases(
            [_case("LinearClassifier", X, 2, coefficients=WEIGHTS[:4], classlabels_ints=[0, 1], expected=wanted)]
        )
    with pytest.raises(ConversionError, match="names, which are strings, are not supported"):
        check_cases(
            [_case("LinearClassifier", X, 2, coefficients=WEIGHTS[:8], classlabels_strings=["a", "b"], expected=wanted)]
        )
