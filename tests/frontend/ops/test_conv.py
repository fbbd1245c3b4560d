"""Conv against ONNX Runtime and the reference evaluator: ranks, groups, pads, dilations, open sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases, check_model
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X, LINE, VOLUME = floats(2, 4, 9, 7), floats(2, 4, 11), floats(1, 4, 5, 4, 6)

ATTRIBUTES = [
    {},
    {"pads": [1, 0, 1, 2], "strides": [2, 1]},
    {"pads": [0, 1, 2, 1], "dilations": [2, 3]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID", "strides": [3, 1]},
]


def weights(out: int, inner: int, *kernel: int) -> Const:
    return Const(floats(out, inner, *kernel))


def runtime(x: np.ndarray, *rest: object, **attributes: object) -> Case:
    return by_runtime(case("Conv", x, *rest, **attributes))


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_two_dimensions(dims):
    kinds = ATTRIBUTES if dims == "fixed" else ATTRIBUTES[1:4]
    cases = [runtime(X, weights(6, 4, 3, 2), dims=dims, **attributes) for attributes in kinds]
    cases += [runtime(X, weights(6, 4 // g, 3, 3), Const(floats(6)), group=g, pads=[1] * 4, dims=dims) for g in (1, 2)]
    cases += [runtime(X, weights(8, 1, 3, 3), Const(floats(8)), group=4, strides=[2, 2], dims=dims)]
    cases += [runtime(X, weights(4, 1, 5, 3), group=4, auto_pad="SAME_UPPER", strides=[2, 2], dims=dims)]
    cases += [runtime(X, weights(5, 4, 1, 1), Const(floats(5)), dims=dims)]
    cases += [case("Conv", X[:0], weights(5, 4, 3, 3), dims=dims, expected=np.zeros((0, 5, 7, 5), np.float32))]
    check_cases(cases, atol=1e-5)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_one_and_three_dimensions(dims):
    cases = [
        runtime(LINE, weights(6, 4, 3), Const(floats(6)), pads=[1, 2], strides=[2], dims=dims),
        runtime(LINE, weights(6, 2, 3), group=2, dilations=[2], dims=dims),
        runtime(LINE, weights(4, 1, 4), group=4, auto_pad="SAME_LOWER", strides=[3], dims=dims),
        runtime(
            VOLUME, weights(6, 4, 2, 3, 2), Const(floats(6)), pads=[0, 1, 1, 1, 0, 2], strides=[1, 2, 2], dims=dims
        ),
        runtime(VOLUME, weights(6, 2, 2, 2, 3), group=2, dilations=[2, 1, 1], dims=dims),
        runtime(VOLUME, weights(4, 1, 3, 3, 3), group=4, auto_pad="SAME_UPPER", strides=[2, 1, 2], dims=dims),
    ]
    check_cases(cases, atol=1e-5)


def test_weights_known_at_run_time_and_narrow_types():
    x, w = X.astype(np.float16), floats(3, 4, 3, 3).astype(np.float16)
    check_cases(
        [
            runtime(X, floats(6, 4, 3, 3), floats(6)),
            case("Conv", x, Const(w), pads=[1, 1, 1, 1]),
            case("Conv", X.astype(np.float64), Const(floats(3, 4, 2, 2).astype(np.float64))),
        ],
        atol=1e-5,
    )


def test_one_model_serves_every_size():
    text = """<ir_version: 10, opset_import: ["" : 20]>
        f (float[n, c, h, w] x, float[4, 3, 3, 3] k) => (float[n, 4, p, q] y) {
            y = Conv<auto_pad="SAME_UPPER", strides=[2, 2]>(x, k)
        }"""
    feeds = [{"x": floats(n, 3, h, w), "k": floats(4, 3, 3, 3)} for n, h, w in [(1, 1, 1), (2, 5, 8), (1, 7, 2)]]
    check_model(text, feeds, reference="ort", atol=1e-5)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Conv", X, weights(6, 3, 3, 3), expected=X), "the input has 4 channels, the weight needs 3"),
        (case("Conv", X, weights(6, 4, 10, 3), expected=X), "larger than the input"),
        (case("Conv", X, weights(6, 4, 3), expected=X), "weight of rank 3"),
        (case("Conv", X, weights(5, 2, 3, 3), group=2, expected=X), "5 output channels can't be split into 2"),
        (case("Conv", X, weights(6, 4, 3, 3), kernel_shape=[3, 2], expected=X), r"kernel_shape is \[3, 2\]"),
        (case("Conv", X, weights(6, 4, 3, 3), Const(floats(5)), expected=X), r"bias has shape \[5\]"),
        (case("Conv", X, weights(6, 4, 3, 3), strides=[1], expected=X), r"strides \[1\] doesn't fit 2"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
