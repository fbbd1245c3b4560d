"""MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv: integer sums are exact, requantized as in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases
from ort_case import by_runtime

rng = np.random.default_rng(12)


def integers(dtype: type, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def scales(*shape: int) -> np.ndarray:
    return rng.uniform(0.01, 0.1, shape).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_matmul_integer(dims: str) -> None:
    u, s = integers(np.uint8, 3, 37), integers(np.int8, 37, 5)
    check_cases(
        [
            case("MatMulInteger", u, s, dims=dims),
            case("MatMulInteger", u, Const(s), Const(np.uint8(200)), dims=dims),
            case("MatMulInteger", u, Const(s), np.array(7, np.uint8), Const(integers(np.int8, 5)), dims=dims),
            case("MatMulInteger", u, Const(integers(np.uint8, 37, 5)), Const(np.uint8([9])), Const(np.uint8(128))),
            case("MatMulInteger", integers(np.int8, 2, 3, 4), integers(np.int8, 2, 4, 5), dims=dims),
            case("MatMulInteger", integers(np.int8, 2, 1, 3, 4), Const(integers(np.int8, 3, 4, 5)), dims=dims),
            case("MatMulInteger", integers(np.uint8, 37), integers(np.uint8, 37), dims=dims),
        ]
    )


def test_row_and_column_zero_points() -> None:
    a, b = integers(np.uint8, 3, 4), integers(np.uint8, 4, 5)
    rows, columns = integers(np.uint8, 3), integers(np.uint8, 5)
    expected = (a.astype(np.int32) - rows[:, None]) @ (b.astype(np.int32) - columns)
    check_cases([case("MatMulInteger", a, b, rows, columns, expected=expected)])


@pytest.mark.parametrize("depth", [257, 258, 259, 3001])
def test_long_sums_of_large_products_are_exact(depth: int) -> None:
    """Sums that float32 can't hold: 255 * 255 more than 258 times, the last of them odd."""
    a, b = np.full((2, depth), 255, np.uint8), np.full((depth, 17), 255, np.uint8)
    a[1, -1] = 254
    expected = a.astype(np.int32) @ b.astype(np.int32)
    check_cases(
        [
            case("MatMulInteger", a, b, expected=expected),
            case("MatMulInteger", a, Const(b), expected=expected),
            case("MatMulInteger", a, Const(b), dims="open", expected=expected),
            case("MatMulInteger", a, b, dims="open", expected=expected),
        ],
        artifact=depth == 3001,
    )


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_qlinear_matmul(dims: str) -> None:
    u, s = integers(np.uint8, 13, 37), integers(np.int8, 37, 18)
    one = [Const(np.float32(0.02)), Const(np.uint8(120))]
    column = [Const(scales(18)), Const(np.zeros(18, np.int8))]
    items = [
        Case("QLinearMatMul", [u, *one, Const(s), *column, Const(np.float32(0.3)), Const(np.uint8(100))], dims=dims),
        Case("QLinearMatMul", [u, *one, s, np.float32(0.04), np.int8(3), np.float32(0.6), np.uint8(7)], dims=dims),
        Case(
            "QLinearMatMul",
            [integers(np.int8, 2, 3, 37), Const(np.float32(0.02)), Const(np.int8(-9)), Const(s),
             Const(np.float32([0.05])), Const(np.int8([0])), Const(np.float32(0.3)), Const(np.int8(-128))],
            dims=dims,
        ),
    ]  # fmt: skip
    check_cases([by_runtime(item) for item in items])


WINDOWS = [
    {},
    {"pads": [1, 0, 2, 1], "strides": [2, 1]},
    {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
]


@pytest.mark.parametrize("window", WINDOWS)
def test_convolutions(window: dict) -> None:
    x, w = integers(np.uint8, 1, 6, 9, 8), integers(np.int8, 4, 6, 3, 3)
    q = [Const(np.float32(0.02)), Const(np.uint8(120))]
    out = [Const(np.float32(0.9)), Const(np.uint8(101))]
    bias = Const(rng.integers(-9999, 9999, 4).astype(np.int32))
    per_output = [Const(scales(4)), Const(np.zeros(4, np.int8))]
    items = [
        Case("ConvInteger", [x, Const(w), Const(np.uint8(77))], window),
        Case("ConvInteger", [x, w], window, dims="first"),
        Case("QLinearConv", [x, *q, Const(w), *per_output, *out, bias], window),
        Case("QLinearConv", [x, *q, Const(w), Const(np.float32(0.01)), Const(np.int8(0)), *out], window, dims="open"),
    ]  # fmt: skip
    check_cases([by_runtime(item) for item in items])


def test_groups_other_ranks_and_many_channels() -> None:
    u8 = Const(np.uint8(120))
    depthwise = {"group": 6}
    deep_x, deep_w = np.full((1, 450, 4, 4), 255, np.uint8), np.full((3, 450, 3, 3), 255, np.uint8)
    items = [
        Case("ConvInteger", [integers(np.uint8, 1, 6, 7, 8), Const(integers(np.uint8, 6, 1, 3, 3)), u8, u8], depthwise),
        Case("ConvInteger", [integers(np.uint8, 2, 6, 7, 8), Const(integers(np.int8, 4, 3, 3, 2)), u8], {"group": 2}),
        Case("ConvInteger", [integers(np.uint8, 2, 6, 11), Const(integers(np.uint8, 4, 6, 3))]),
        Case("ConvInteger", [integers(np.uint8, 1, 2, 4, 5, 6), Const(integers(np.uint8, 3, 2, 2, 2, 2)), u8]),
        Case("ConvInteger", [deep_x, Const(deep_w)]),
        Case("ConvInteger", [deep_x, deep_w]),
        Case("ConvInteger", [deep_x, Const(deep_w[:, :150])], {"group": 3}),
        Case("ConvInteger", [integers(np.uint8, 1, 1, 20, 20), integers(np.uint8, 2, 1, 17, 17)]),
    ]  # fmt: skip
    check_cases([by_runtime(item) for item in items])


def test_3x3_convolutions_stay_exact_through_the_whole_compiler() -> None:
    """Winograd's transforms would round."""
    x, w = integers(np.uint8, 1, 32, 14, 14), integers(np.int8, 32, 32, 3, 3)
    items = [Case("ConvInteger", [x, Const(w), Const(np.uint8(120))], {"pads": [1, 1, 1, 1]})]
    check_cases([by_runtime(item) for item in items], artifact=True)
