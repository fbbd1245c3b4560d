"""Convolutions and products of 16-bit floats are computed by float32's kernels, and rounded once at the end."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import Kernels
from pass_graphs import assert_same, const, data, graph, operators
from tvm import relax

from onnxkiln.passes.widen_halves import widen_halves

O = relax.op  # noqa: E741


def half(*shape: int) -> np.ndarray:
    return data(*shape, dtype="float16")


def conv(x, **window):
    y = O.nn.conv2d(x, const(half(5, 3, 3, 3)), out_dtype="float32", **window)
    return O.nn.relu(O.astype(y, "float16"))


def test_constant_weights_are_widened_when_compiling() -> None:
    mod = graph(lambda x: conv(x, padding=(1, 1)), ("n", 3, 7, 9), dtype="float16")
    after, count = widen_halves(mod)
    assert count == 1
    assert operators(after) == ["astype", "nn.conv2d", "astype", "nn.relu"]
    assert_same(mod, after, [half(1, 3, 7, 9)], [half(3, 3, 7, 9)], rtol=1e-3)


def test_an_operand_that_is_read_twice_is_widened_once() -> None:
    def twice(x):
        return [O.matmul(x, const(half(8, 5)), "float32"), O.matmul(x, O.permute_dims(x), "float32")]

    mod = graph(twice, ("n", 8), dtype="float16")
    after, count = widen_halves(mod)
    assert count == 2 and operators(after).count("astype") == 2  # of x, and of its transpose
    assert_same(mod, after, [half(1, 8)], [half(13, 8)], rtol=1e-3)


def test_sums_asked_for_in_16_bits_are_rounded_once() -> None:
    weight, x = half(300, 17), half(4, 300)
    after, count = widen_halves(graph(lambda x: O.matmul(x, const(weight)), ("n", 300), dtype="float16"))
    assert count == 1 and operators(after) == ["astype", "matmul", "astype"]
    found = Kernels(after)(x)[0]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, x.astype("float64") @ weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_others_are_left_alone(dtype: str) -> None:
    mod = graph(lambda x: O.nn.relu(O.matmul(x, const(data(4, 3, dtype=dtype)))), ("n", 4), dtype=dtype)
    after, count = widen_halves(mod)
    assert count == 0 and operators(after) == operators(mod)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 7), (1, 16, 33)])
def test_kernels_of_float32_serve(size: tuple[int, int, int]) -> None:
    weight, product = half(16, 3, 3, 3), half(16, 24)

    def network(x):
        y = O.astype(O.nn.conv2d(x, const(weight), padding=(1, 1), out_dtype="float32"), "float16")
        means = O.mean(O.astype(O.nn.relu(y), "float32"), [2, 3])
        return O.astype(O.matmul(O.astype(means, "float16"), const(product), "float32"), "float16")

    kernels = Kernels(graph(network, ("n", 3, "h", "w"), dtype="float16"))
    assert {"conv2d", "matmul"} <= {report.template for report in kernels.reports}
    n, h, w = size
    x = half(n, 3, h, w)
    padded = np.pad(x.astype("float64"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, weight.astype("float64"))
    want = np.maximum(y, 0).mean((2, 3)) @ product.astype("float64")
    np.testing.assert_allclose(kernels(x)[0].astype("float64"), want, rtol=5e-3, atol=5e-3)
