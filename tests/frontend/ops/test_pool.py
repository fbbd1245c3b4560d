"""Pools against ONNX Runtime and the reference evaluator: pads, ceil_mode, dilations, indices, open sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx_check import case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(4)
X = RNG.standard_normal((2, 3, 9, 7)).astype(np.float32)
LINE, VOLUME = X[:, :, :, 0], RNG.standard_normal((1, 2, 5, 4, 6)).astype(np.float32)

WINDOWS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [0, 1, 1, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [4, 2], "strides": [3, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1], "strides": [1, 2]},
]


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_global_pools_of_nothing_and_of_large_halves(dims):
    nothing, none = X[:, :, :0], np.full((2, 3, 1, 1), np.nan, np.float32)
    cases = [
        case("GlobalAveragePool", nothing, dims=dims, expected=none),
        case("GlobalMaxPool", nothing, dims=dims, expected=np.full_like(none, -np.inf)),
        case("GlobalLpPool", nothing, dims=dims, expected=np.zeros_like(none)),
        *(case(name, X[:0], dims=dims, expected=none[:0]) for name in ("GlobalAveragePool", "GlobalMaxPool")),
        case("GlobalMaxPool", np.full_like(X, -np.inf), dims=dims, expected=np.full_like(none, -np.inf)),
    ]
    halves = np.full((1, 2, 9, 9), 3000, np.float16)
    cases.append(case("GlobalAveragePool", halves, dims=dims, expected=np.full((1, 2, 1, 1), 3000, np.float16)))
    check_cases(cases, artifact=True)  # TVM's own lowering begins maxima at the smallest finite number


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_max_pool(dims):
    windows = WINDOWS if dims == "fixed" else WINDOWS[1::3]
    cases = [by_runtime(case("MaxPool", X, dims=dims, **window)) for window in windows]
    cases += [
        by_runtime(case("MaxPool", LINE, kernel_shape=[3], strides=[2], pads=[1, 1], dims=dims)),
        by_runtime(
            case("MaxPool", VOLUME, kernel_shape=[2, 2, 3], strides=[1, 2, 2], pads=[0, 1, 1, 1, 0, 1], dims=dims)
        ),
        by_runtime(case("MaxPool", (X * 20).astype(np.int8), kernel_shape=[3, 3], pads=[1, 1, 1, 1], dims=dims)),
        by_runtime(
            case("MaxPool", (X * 20).astype(np.uint8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, dims=dims)
        ),
        by_runtime(case("MaxPool", X.astype(np.float64), kernel_shape=[3, 3], auto_pad="SAME_UPPER", dims=dims)),
        case("MaxPool", X[:0], kernel_shape=[3, 3], dims=dims, expected=np.zeros((0, 3, 7, 5), np.float32)),
    ]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_windows_of_the_lowest_alone(dims):
    """-inf is an element like any other, and lower than every finite one; so is the padding."""
    x = np.full((1, 3, 6, 5), -np.inf, np.float32)
    x[0, 1] = -3.4028235e38
    x[0, 2, 2:, 3:] = 1.0
    windows = [{"kernel_shape": [2, 2]}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, {"kernel_shape": [3, 3]}]
    cases = [case("MaxPool", x, dims=dims, **window) for window in windows]
    cases += [case("MaxPool", x, dims=dims, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")]
    cases += [by_runtime(case("MaxPool", x, outputs=2, dims=dims, kernel_shape=[2, 2]))]
    check_cases([*cases, case("GlobalMaxPool", x, dims=dims)], artifact=True)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_max_pool_with_indices(dims):
    ties = np.round(X)
    cases = [
        by_runtime(case("MaxPool", x, outputs=2, storage_order=order, dims=dims, **window))
        for window, order in itertools.product(WINDOWS[1:7:2], (0, 1))
        for x in (X, ties)
        if not (order and "auto_pad" in window)
    ]
    cases += [by_runtime(case("MaxPool", LINE, outputs=2, kernel_shape=[3], strides=[2], dims=dims))]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_average_pool(dims):
    cases = [
        by_runtime(case("AveragePool", X, count_include_pad=include, dims=dims, **window))
        for window, include in itertools.product(WINDOWS if dims == "fixed" else WINDOWS[4:9:2], (0, 1))
    ]
    cases += [
        by_runtime(case("AveragePool", LINE, kernel_shape=[3], strides=[2], pads=[1, 1], dims=dims)),
        by_runtime(case("AveragePool", VOLUME, kernel_shape=[2, 2, 3], pads=[0, 1, 1, 1, 0, 1], dims=dims)),
        case("AveragePool", X.astype(np.float16), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], dims=dims),
    ]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool"])
def test_an_input_too_small_by_less_than_a_stride_has_one_window(op_type, dims):
    windows = [{"kernel_shape": [3, 2], "strides": [3, 2]}, {"kernel_shape": [3, 3], "strides": [3, 3]}]
    small = [X[:, :, :3, :1], X[:, :, :1, :4], X[:, :, :1, :1], X[:, :, :2, :2]]
    check_cases([by_runtime(case(op_type, x, dims=dims, **window)) for window in windows for x in small])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_lp_and_global_pools(dims):
    cases = [by_runtime(case("LpPool", X, p=p, dims=dims, **WINDOWS[i])) for p, i in [(1, 0), (2, 1), (3, 4), (2, 8)]]
    for op, x in itertools.product(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], [X, LINE, VOLUME, X[:0]]):
        cases.append(by_runtime(case(op, x, dims=dims)))
    check_cases(cases)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("MaxPool", X[0, 0], kernel_shape=[3], expected=X), "found rank 2"),
        (case("MaxPool", X, kernel_shape=[3], expected=X), r"kernel_shape \[3\] doesn't fit 2"),
        (case("AveragePool", X, kernel_shape=[10, 2], expected=X), "larger than the input"),
        (case("MaxPool", X, kernel_shape=[3, 3], auto_pad="SAME", expected=X), "auto_pad 'SAME'"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
