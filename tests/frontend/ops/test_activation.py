"""Activations and Clip against the reference evaluator."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Const, case, check_cases

from onnxkiln.errors import ConversionError

rng = np.random.default_rng(2)
PLAIN = [
    ("Relu", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("Elu", {}), ("Elu", {"alpha": 2.0}), ("Selu", {}),
    ("Celu", {"alpha": 2.0}), ("ThresholdedRelu", {"alpha": 0.7}), ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.2}),
    ("HardSwish", {}), ("Sigmoid", {}), ("Softplus", {}), ("Softsign", {}), ("Mish", {}), ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}), ("Shrink", {"lambd": 0.4, "bias": 0.2}), ("Shrink", {}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_values(dtype: type) -> None:
    x = np.concatenate([np.linspace(-6, 6, 31), [0.0, -0.0]]).astype(dtype)
    known = (
        PLAIN
        if dtype != ml_dtypes.bfloat16
        else [entry for entry in PLAIN if entry[0] in ("Relu", "Sigmoid", "Elu", "Softplus", "HardSwish")]
    )
    check_cases([case(op, x, dims="open", **attributes) for op, attributes in known])


def test_doubles_stay_doubles() -> None:
    x = np.linspace(-6, 6, 31)
    check_cases(
        [case(op, x, **attributes) for op, attributes in PLAIN if op not in ("Celu", "Selu", "HardSwish")], rtol=1e-6
    )


def test_nan_and_infinities_pass_through() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    low, high = Const(np.float32(-2)), Const(np.float32(3))
    check_cases(
        [
            case("Relu", x),
            case("Clip", x, low, high),
            case("LeakyRelu", x),
            case("Sigmoid", x),
            case(
                "Softplus",
                np.array([1e4, -1e4, np.inf, -np.inf], np.float32),
                expected=np.array([1e4, 0, np.inf, 0], np.float32),
            ),
        ]
    )


def test_swish() -> None:
    x = np.linspace(-6, 6, 31).astype(np.float32)
    check_cases([case("Swish", x, dims="open"), case("Swish", x, alpha=0.7)], opset=24)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_clip_limits(dims: str) -> None:
    x = rng.standard_normal((3, 5)).astype(np.float32) * 3
    low, high = np.float32(-1.5), np.float32(2)
    whole = rng.integers(-9, 9, (3, 5))
    check_cases(
        [
            case("Clip", x, Const(low), Const(high), dims=dims),
            case("Clip", x, None, Const(high), dims=dims),
            case("Clip", x, Const(low), dims=dims),
            case("Clip", x, dims=dims),
            case("Clip", x, np.array(low), np.array(high), dims=dims),
            case("Clip", x, Const(high), Const(low), dims=dims, expected=np.full_like(x, low)),
            case("Clip", whole, Const(np.array(-2)), np.array(5), dims=dims),
            case("Clip", whole.astype(np.int8), Const(np.int8(-2)), Const(np.int8(5)), dims=dims),
        ]
    )


def test_old_opsets() -> None:
    x = rng.standard_normal((2, 3, 2, 2)).astype(np.float32)
    slope = np.array([0.1, 0.2, 0.3], np.float32)
    expected = np.where(x < 0, x * slope[:, None, None], x)
    check_cases(
        [case("Clip", x, min=-0.5, max=0.25), case("Clip", x, max=0.25), case("PRelu", x, slope, expected=expected)],
        opset=6,
    )


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_prelu_slopes(dims: str) -> None:
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    check_cases(
        [
            case("PRelu", x, rng.standard_normal(shape).astype(np.float32), dims=dims)
            for shape in [(3, 1, 1), (1,), (4, 5), (5,)]
        ]
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_shrink_of_integers_has_float_attributes(dtype: type) -> None:
    x = np.array([0, 1, 2, 3, 7, 100, -1, -2, -5] if dtype is not np.uint8 else [0, 1, 2, 3, 7, 100], dtype)
    for lambd, bias in [(1.5, 1.5), (0.5, 0.0), (2.0, -0.5)]:
        wide = x.astype(np.float64)
        exact = np.where(wide < -lambd, wide + bias, np.where(wide > lambd, wide - bias, 0)).astype(dtype)
        check_cases([case("Shrink", x, lambd=lambd, bias=bias, expected=exact)])


def test_dropout_is_identity() -> None:
    x = rng.standard_normal((2, 3)).astype(np.float32)
    check_cases(
        [case("Dropout", x, outputs=2, dims="open"), case("Dropout", x, Const(np.float32(0.3)), Const(np.array(False)))]
    )


def test_dropout_that_may_train_drops_nothing_or_ends() -> None:
    x = rng.standard_normal((2, 3)).astype(np.float32)
    mask = np.ones((2, 3), bool)
    for ratio, training in [(0.5, False), (0.0, True), (0.0, False)]:
        numbers = [np.float32(ratio), np.array(training)]
        for given in (numbers, [Const(numbers[0]), numbers[1]], [numbers[0], Const(numbers[1])]):
            check_cases([case("Dropout", x, *given, outputs=2, expected=[x, mask])])
    for ratio in (np.float32(0.5), None):
        with pytest.raises(Exception, match=r"(?i)match|shape"):
            check_cases([case("Dropout", x, ratio, np.array(True), expected=x)])
    with pytest.raises(ConversionError, match="random"):
        check_cases([case("Dropout", x, None, Const(np.array(True)), expected=x)])
