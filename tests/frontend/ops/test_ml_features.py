"""ai.onnx.ml's operators on features against ONNX Runtime, where it has them for these types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from onnx_check import Case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(15)
X = RNG.standard_normal((5, 3)).astype(np.float32)
N = RNG.integers(-3, 4, (5, 3))


def _case(op_type: str, *inputs: Any, dims: str = "fixed", expected: Any = None, **attributes: Any) -> Case:
    return Case(op_type, inputs, attributes, 1, dims, expected, "ai.onnx.ml")


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_features(dims: str) -> None:
    solid = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    cases = [
        _case("ArrayFeatureExtractor", X, np.array([2, 0, 2]), dims=dims),
        _case("ArrayFeatureExtractor", X[0], np.array([[1]]), dims=dims),
        _case("ArrayFeatureExtractor", solid, np.array([[3, 1]]), dims=dims),
        _case("ArrayFeatureExtractor", N, np.array([1]), dims=dims),
        _case("Binarizer", X, threshold=0.2, dims=dims),
        _case("Normalizer", np.abs(X), norm="MAX", dims=dims),
        _case("Normalizer", X, norm="L1", dims=dims),
        _case("Normalizer", X, norm="L2", dims=dims),
        _case("Normalizer", N, norm="L2", dims=dims),
        _case("Scaler", X, offset=[0.5], scale=[2.0], dims=dims),
        _case("OneHotEncoder", N, cats_int64s=[-1, 0, 2], dims=dims),
        _case("OneHotEncoder", X[:, :1] * 4, cats_int64s=[-1, 0, 1], dims=dims),
    ]
    check_cases([by_runtime(case) for case in cases], opset=18)


def test_per_feature() -> None:
    holes = np.where(X > 0.5, np.nan, X)
    cases = [
        _case("Scaler", X, offset=[0.5, 1.0, -1.0], scale=[2.0, 0.1, 3.0]),
        _case("Imputer", holes, imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan")),
        _case("Imputer", N.astype(np.float32), imputed_value_floats=[9.0], replaced_value_float=2.0),
        _case("Imputer", N, imputed_value_int64s=[7, 8, 9], replaced_value_int64=1),
        _case("FeatureVectorizer", X, X[:, :2], inputdimensions=[3, 2]),
    ]
    check_cases([by_runtime(case) for case in cases], opset=18)
    wide = np.concatenate([X[:, :2], X[:, :1], np.zeros((5, 2), np.float32)], 1)
    check_cases([_case("FeatureVectorizer", X, X[:, 0].copy(), inputdimensions=[2, 3], expected=[wide])], opset=18)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_labels(dims: str) -> None:
    odd = np.array([[1.5, np.nan], [2.0, -3.0]], np.float32)
    keys = numpy_helper.from_array(np.array([1.5, np.nan, 2.0], np.float32))
    values = numpy_helper.from_array(np.array([10, 11, 12], np.int16))
    default = numpy_helper.from_array(np.array([-5], np.int16))
    wanted = np.array([[10, 11], [12, -5]], np.int16)
    cases = [
        by_runtime(_case("LabelEncoder", N, keys_int64s=[0, 1, -2], values_int64s=[5, 6, 7], dims=dims)),
        by_runtime(_case("LabelEncoder", N, keys_int64s=[3], values_floats=[0.5], default_float=9.5, dims=dims)),
        by_runtime(_case("LabelEncoder", odd, keys_floats=[2.0, 1.5], values_floats=[1.0, 2.0], dims=dims)),
        _case("LabelEncoder", odd, keys_tensor=keys, values_tensor=values, default_tensor=default, dims=dims,
              expected=[wanted]),
    ]  # fmt: skip
    check_cases(cases, opset=18)


def test_refusals() -> None:
    with pytest.raises(ConversionError, match="labels that are strings are not supported"):
        check_cases([_case("LabelEncoder", N, keys_int64s=[1], values_strings=["a"], expected=[N])], opset=18)


def test_an_unknown_category_makes_the_run_fail() -> None:
    wanted = [np.zeros((5, 3, 1), np.float32)]
    with pytest.raises(RuntimeError):
        check_cases([_case("OneHotEncoder", N, cats_int64s=[99], zeros=0, expected=wanted)], opset=18)
