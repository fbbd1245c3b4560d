"""Normalisations against the reference evaluator (or NumPy, or ONNX Runtime where it lacks them)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx_check import Const, case, check_cases, check_model

rng = np.random.default_rng(6)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def batch_parameters(channels: int) -> list[np.ndarray]:
    return [floats(channels), floats(channels), floats(channels), np.abs(floats(channels)) + 0.1]


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_batch_normalization(dims: str) -> None:
    parameters = batch_parameters(3)
    constant = [Const(array) for array in parameters]
    check_cases(
        [
            case("BatchNormalization", floats(2, 3, 4, 5), *constant, dims=dims, epsilon=1e-3),
            case("BatchNormalization", floats(2, 3), *constant, dims=dims),
            case("BatchNormalization", floats(2, 3, 4), *parameters, dims=dims),
            case(
                "BatchNormalization",
                floats(2, 3, 4, 5),
                *parameters,
                dims=dims,
                outputs=3,
                training_mode=1,
                momentum=0.8,
            ),
        ]
    )


def test_batch_normalization_of_old_opsets() -> None:
    x, (scale, bias, mean, var) = floats(2, 3, 4, 5), batch_parameters(3)
    expected = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5) * scale[:, None, None] + bias[
        :, None, None
    ]
    check_cases(
        [case("BatchNormalization", x, *(Const(p) for p in (scale, bias, mean, var)), expected=expected, is_test=1)],
        opset=6,
    )
    each = [floats(3, 4), floats(3, 4), floats(3, 4), np.abs(floats(3, 4)) + 0.1]
    y = floats(2, 3, 4)
    spatial = (y - each[2]) / np.sqrt(each[3] + 1e-5) * each[0] + each[1]
    check_cases([case("BatchNormalization", y, *(Const(p) for p in each), spatial=0, expected=spatial)], opset=7)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_layer_normalization(dims: str) -> None:
    x = floats(2, 3, 5) + 100
    check_cases(
        [
            case("LayerNormalization", x, Const(floats(5)), Const(floats(5)), dims=dims),
            case("LayerNormalization", x, floats(5), floats(5), dims=dims),
            case("LayerNormalization", x, Const(floats(5)), dims=dims, epsilon=1e-2),
            case("LayerNormalization", x, Const(floats(3, 5)), Const(floats(3, 5)), dims=dims, axis=1),
            case("LayerNormalization", x, Const(floats(2, 3, 5)), Const(floats(2, 3, 5)), dims=dims, axis=0),
            case("LayerNormalization", x, Const(floats(1)), Const(floats(5)), dims=dims, outputs=3, axis=-1),
            case("LayerNormalization", x, Const(floats(3, 5)), dims=dims, outputs=2, axis=1),
            case("LayerNormalization", x.astype(np.float64), Const(floats(5).astype(np.float64)), dims=dims),
        ],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_layer_normalization_of_16_bits(dtype: type) -> None:
    x, scale, bias = (array.astype(dtype) for array in (floats(3, 16), floats(16), floats(16)))
    exact, wide_scale, wide_bias = (array.astype(np.float64) for array in (x, scale, bias))
    mean, deviation = exact.mean(1, keepdims=True), np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    expected = [
        ((exact - mean) / deviation * wide_scale + wide_bias).astype(dtype),
        mean.astype(np.float32),
        (1 / deviation).astype(np.float32),
    ]
    check_cases([case("LayerNormalization", x, Const(scale), Const(bias), outputs=3, expected=expected)])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_rms_normalization(dims: str) -> None:
    x = floats(2, 3, 5)
    check_cases(
        [
            case("RMSNormalization", x, Const(floats(5)), dims=dims),
            case("RMSNormalization", x, floats(5), dims=dims, epsilon=1e-2),
            case("RMSNormalization", x, Const(floats(3, 5)), dims=dims, axis=1),
            case("RMSNormalization", x, Const(floats(1)), dims=dims),
            case("RMSNormalization", x, Const(floats(2, 3, 5)), dims=dims, axis=0),
            case("RMSNormalization", x.astype(np.float16), Const(floats(5).astype(np.float16)), dims=dims),
            case("RMSNormalization", x[..., :0], floats(0), dims=dims, expected=x[..., :0]),
            case("RMSNormalization", x[:0], floats(3, 5), dims=dims, axis=1, expected=x[:0]),
        ],
        opset=23,
    )


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_over_channels(dims: str) -> None:
    x = floats(2, 6, 4, 3)
    check_cases(
        [
            case("InstanceNormalization", x, Const(floats(6)), Const(floats(6)), dims=dims),
            case("InstanceNormalization", x, floats(6), floats(6), dims=dims, epsilon=1e-2),
            case("MeanVarianceNormalization", x, dims=dims),
            case("MeanVarianceNormalization", x, dims=dims, axes=[0, 2]),
            case("LpNormalization", x, dims=dims),
            case("LpNormalization", x, dims=dims, p=1, axis=1, expected=x / np.abs(x).sum(1, keepdims=True)),
            case("LpNormalization", np.zeros((2, 3), np.float32), dims=dims),
        ],
        rtol=1e-4,
        atol=1e-5,
    )


def test_group_normalization() -> None:
    x = floats(2, 6, 4, 3)
    grouped = x.reshape(2, 3, -1)
    normal = ((grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)).reshape(
        x.shape
    )
    scale, bias = floats(6), floats(6)
    expected = normal * scale[:, None, None] + bias[:, None, None]
    constant = [Const(scale), Const(bias)]
    check_cases(
        [
            case("GroupNormalization", x, scale, bias, num_groups=3, expected=expected),
            case("GroupNormalization", x, *constant, num_groups=3, expected=expected),
            case("GroupNormalization", x, *constant, num_groups=3, expected=expected, dims="open"),
        ],
        opset=21,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn(size: int) -> None:
    node = oh.make_node("LRN", ["x"], ["y"], size=size, alpha=0.1, beta=0.6, bias=1.5)
    info = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 5, "h", 3]) for name in "xy"]
    model = oh.make_model(
        oh.make_graph([node], "lrn", info[:1], info[1:]), opset_imports=[oh.make_opsetid("", 13)], ir_version=10
    )
    check_model(model, {"x": floats(2, 5, 4, 3)}, reference="ort")
