"""MaxUnpool against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(4)


def _pooled(shape: tuple[int, ...], dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Values, and for each a place of its own among four times (or twice) as many."""
    count = int(np.prod(shape))
    places = RNG.permutation(count * 2 ** (len(shape) - 2))[:count].reshape(shape)
    return RNG.standard_normal(shape).astype(dtype), places


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_against_reference(dims):
    x, places = _pooled((2, 3, 4, 5))
    half, spots = _pooled((1, 2, 7), np.float16)
    halved = {"kernel_shape": [2, 2], "strides": [2, 2]}
    larger = np.array([2, 3, 9, 12])
    cases = [
        case("MaxUnpool", x, places, dims=dims, **halved),
        case("MaxUnpool", x, places, larger, **halved),
        case("MaxUnpool", x, places, Const(larger), dims=dims, **halved),
        case("MaxUnpool", half, spots, dims=dims, kernel_shape=[2], strides=[2]),
        case("MaxUnpool", x[:0], places[:0], dims=dims, **halved),
    ]
    check_cases(cases, opset=11)


def test_undoes_max_pool():
    text = """<ir_version: 10, opset_import: ["" : 18]>
        f (float[n, 3, h, w] x) => (float[n, 3, a, b] y) {
            small, places = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(x)
            y = MaxUnpool<kernel_shape=[2, 2], strides=[2, 2]>(small, places)
        }"""
    check_model(text, [{"x": RNG.standard_normal(shape).astype("f")} for shape in [(1, 3, 4, 6), (2, 3, 2, 2)]])


def test_places_outside_are_left_out():
    x, wild = np.ones((1, 1, 3), np.float32), np.array([[[-1, 2, 1 << 40]]])
    wanted = np.zeros((1, 1, 6), np.float32)
    wanted[..., 2] = 1
    check_cases([case("MaxUnpool", x, wild, kernel_shape=[2], strides=[2], expected=wanted)])


def test_refusals():
    x, places = _pooled((1, 1, 4))
    with pytest.raises(ConversionError, match="data and indices along axis 2 must agree, found 3 and 4"):
        check_cases([case("MaxUnpool", x, places[..., 1:], kernel_shape=[2], expected=x)])
