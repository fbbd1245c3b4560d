"""ConvTranspose against ONNX Runtime: ranks, groups, output padding and shapes, dilations, open sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(6)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X, LINE, VOLUME = floats(2, 4, 5, 3), floats(2, 4, 6), floats(1, 4, 3, 2, 4)

ATTRIBUTES = [
    {},
    {"strides": [2, 3]},
    {"strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]},
    {"strides": [2, 2], "dilations": [2, 3], "pads": [0, 1, 1, 0]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [3, 2], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "auto_pad": "VALID"},
]
FIXED_SHAPE = {"strides": [2, 2], "output_shape": [11, 7]}


def weights(inner: int, out: int, *kernel: int) -> Const:
    return Const(floats(inner, out, *kernel))


def runtime(x: np.ndarray, *rest: object, **attributes: object) -> Case:
    return by_runtime(case("ConvTranspose", x, *rest, **attributes))


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_two_dimensions(dims):
    kinds = ATTRIBUTES if dims == "fixed" else ATTRIBUTES[2:6]
    cases = [runtime(X, weights(4, 3, 3, 4), dims=dims, **attributes) for attributes in kinds]
    cases += [
        runtime(X, weights(4, 2, 2, 2), Const(floats(2)), strides=[2, 2], dims=dims),
        runtime(X, weights(4, 3, 3, 3), Const(floats(6)), group=2, strides=[2, 1], dims=dims),
        runtime(X, weights(4, 1, 3, 3), group=4, strides=[2, 2], pads=[1, 1, 1, 1], dims=dims),
        case("ConvTranspose", X[:0], weights(4, 2, 2, 2), dims=dims, expected=np.zeros((0, 2, 6, 4), np.float32)),
    ]
    if dims == "fixed":
        cases += [runtime(X, weights(4, 3, 3, 4), **FIXED_SHAPE), runtime(X, floats(4, 3, 3, 4), strides=[2, 2])]
        cases += [runtime(X, weights(4, 3, 3, 4), auto_pad="SAME_UPPER", **FIXED_SHAPE)]
        larger = np.zeros((2, 3, 12, 9), np.float32)
        larger[:, :, :11, :8] = runtime(X, ones := weights(4, 3, 3, 4), strides=[2, 2]).expected[0]
        cases += [case("ConvTranspose", X, ones, strides=[2, 2], output_shape=[12, 9], expected=larger)]
    check_cases(cases, atol=1e-5)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_other_ranks_and_types(dims):
    cases = [
        runtime(LINE, weights(4, 3, 3), Const(floats(3)), strides=[2], pads=[1, 0], output_padding=[1], dims=dims),
        runtime(LINE, weights(4, 2, 4), group=2, strides=[3], dilations=[2], dims=dims),
        runtime(
            VOLUME, weights(4, 2, 2, 3, 2), Const(floats(2)), strides=[2, 1, 2], pads=[0, 1, 0, 1, 0, 1], dims=dims
        ),
        case(
            "ConvTranspose",
            X.astype(np.float16),
            Const(floats(4, 2, 2, 2).astype(np.float16)),
            strides=[2, 2],
            dims=dims,
        ),
    ]
    check_cases(cases, atol=1e-5)


def test_without_channels_it_is_the_bias():
    """ONNX Runtime's answer: sums over nothing are 0."""
    nothing = np.zeros((2, 0, 5, 3), np.float32)
    bias = floats(6)
    zeros = np.zeros((2, 6, 7, 5), np.float32)
    cases = [
        case("ConvTranspose", nothing, weights(0, 6, 3, 3), expected=zeros),
        case("ConvTranspose", nothing, weights(0, 3, 3, 3), group=2, expected=zeros),
        case("ConvTranspose", nothing, weights(0, 3, 3, 3), Const(bias), group=2, expected=zeros + bias[:, None, None]),
    ]
    check_cases(cases)
    check_cases(cases, artifact=True)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("ConvTranspose", X, weights(3, 4, 3, 3), expected=X), "the input has 4 channels, the weight needs 3"),
        (case("ConvTranspose", X, weights(4, 3, 1, 1), pads=[3, 0, 3, 0], expected=X), "leave a size of -1"),
        (case("ConvTranspose", X, weights(4, 3, 3, 3), group=3, expected=X), "can't be split into 3 groups"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
