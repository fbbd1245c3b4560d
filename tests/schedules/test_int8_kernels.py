"""Products of bytes are exact on every instruction set, at the ends of their ranges, for shapes that fit no vector."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import RNG, const, graph
from tvm import relax

from onnxkiln.schedules import int8_conv2d, int8_matmul

O = relax.op  # noqa: E741
PRODUCTS = [(1, 1, 1), (13, 7, 17), (2, 3, 15), (37, 129, 33), (1, 64, 48), (8, 4, 16)]
"""(rows, depth, columns)"""
WINDOWS = [
    # size, channels, outputs, kernel, stride, padding, dilation
    ((7, 9), 3, 17, 3, 1, (1, 1, 1, 1), 1),
    ((5, 6), 5, 33, 1, 1, (0, 0, 0, 0), 1),
    ((9, 11), 8, 16, 3, 2, (0, 1, 1, 0), 1),
    ((1, 1), 7, 5, 1, 1, (0, 0, 0, 0), 1),
    ((9, 13), 4, 20, 3, 1, (2, 2, 2, 2), 2),
]


def extreme(low: int, high: int, *shape: int) -> np.ndarray:
    """Random bytes, with the first half of the first axis at ``high`` and the last place at ``low``."""
    array = RNG.integers(low, high + 1, shape)
    array[: max(1, shape[0] // 2)] = high
    array[-1] = low if shape[0] > 1 else array[-1]
    return array.astype("uint8" if low == 0 else "int8")


def convolved(x: np.ndarray, w: np.ndarray, stride: int, padding: tuple[int, ...], dilation: int) -> np.ndarray:
    """NHWC by OIHW, tap by tap."""
    top, left, bottom, right = padding
    padded = np.pad(x.astype(np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, _, kh, kw = w.shape
    rows = (padded.shape[1] - dilation * (kh - 1) - 1) // stride + 1
    columns = (padded.shape[2] - dilation * (kw - 1) - 1) // stride + 1
    total = np.zeros((x.shape[0], rows, columns, len(w)), np.int64)
    for i in range(kh):
        for j in range(kw):
            y, z = i * dilation, j * dilation
            part = padded[:, y : y + (rows - 1) * stride + 1 : stride, z : z + (columns - 1) * stride + 1 : stride]
            total += part @ w[:, :, i, j].T.astype(np.int64)
    return total


def targets() -> list[str]:
    return ["cpu", *LEVELS]


def test_packs() -> None:
    weight = extreme(-128, 127, 5, 18)
    packed = int8_matmul.pack(weight)
    assert packed.shape == (2, 2, 16, 4) and packed.flags.c_contiguous
    assert packed[1, 1, 1, 0] == weight[4, 17] and not packed[1, 1, :, 1:].any() and not packed[1, :, 2:].any()
    kernel = extreme(-128, 127, 17, 5, 3, 2)
    packed = int8_conv2d.pack(kernel)
    assert packed.shape == (2, 3, 2, 2, 16, 4)
    assert packed[1, 2, 1, 1, 0, 0] == kernel[16, 4, 2, 1] and not packed[1, :, :, :, 1:].any()


@pytest.mark.parametrize("target", targets())
def test_products(target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    weights = [extreme(-128, 127, depth, columns) for _, depth, columns in PRODUCTS]
    for opened in (False, True) if target == "cpu" else (True,):
        shapes = [(f"n{i}" if opened else rows, depth) for i, (rows, depth, _) in enumerate(PRODUCTS)]
        kernels = Kernels(
            graph(
                lambda *xs: [O.matmul(x, const(w), "int32") for x, w in zip(xs, weights, strict=True)],
                *shapes,
                dtype="uint8",
            ),
            target,
        )
        assert len(kernels.of("int8_matmul")) == len(PRODUCTS), kernels.reports
        assert all(report.vectorized for report in kernels.reports)
        arrays = [extreme(0, 255, rows, depth) for rows, depth, _ in PRODUCTS]
        for got, x, w in zip(kernels(*arrays), arrays, weights, strict=True):
            assert got.dtype == np.int32
            np.testing.assert_array_equal(got, x.astype(np.int64) @ w.astype(np.int64))


@pytest.mark.parametrize("target", targets())
def test_convolutions(target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    weights = [extreme(-128, 127, out, channels, k, k) for _, channels, out, k, *_ in WINDOWS]

    def layers(*xs: relax.Expr) -> list[relax.Expr]:
        return [
            O.nn.conv2d(x, const(w), stride, padding, dilation, 1, "NHWC", "OIHW", "NHWC", "int32")
            for x, w, (_, _, _, _, stride, padding, dilation) in zip(xs, weights, WINDOWS, strict=True)
        ]

    for opened in (False, True) if target == "cpu" else (True,):
        shapes = [("b", f"h{i}", f"w{i}", c) if opened else (1, *s, c) for i, (s, c, *_) in enumerate(WINDOWS)]
        kernels = Kernels(graph(layers, *shapes, dtype="uint8"), target)
        assert len(kernels.of("int8_conv2d")) == len(WINDOWS), kernels.reports
        arrays = [extreme(0, 255, 1 + opened, *size, channels) for size, channels, *_ in WINDOWS]
        for got, x, w, window in zip(kernels(*arrays), arrays, weights, WINDOWS, strict=True):
            np.testing.assert_array_equal(got, convolved(x, w, *window[4:]))


def test_depthwise_and_no_rows() -> None:
    weight, empty = extreme(-128, 127, 20, 1, 3, 3), extreme(-128, 127, 5, 3)

    def layers(x: relax.Expr) -> relax.Expr:
        return O.nn.conv2d(x, const(weight), 1, (1, 1, 1, 1), 1, 20, "NHWC", "OIHW", "NHWC", "int32")

    kernels = Kernels(graph(layers, (1, 7, 5, 20), dtype="uint8"))
    assert len(kernels.of("depthwise_conv2d")) == 1
    x = extreme(0, 255, 1, 7, 5, 20)
    want = np.concatenate(
        [convolved(x[..., c : c + 1], weight[c : c + 1], 1, (1, 1, 1, 1), 1) for c in range(20)], axis=-1
    )
    np.testing.assert_array_equal(kernels(x)[0], want)
    rows = Kernels(graph(lambda x: O.matmul(x, const(empty), "int32"), ("n", 5), dtype="uint8"))
    assert rows(np.zeros((0, 5), np.uint8))[0].shape == (0, 3)
