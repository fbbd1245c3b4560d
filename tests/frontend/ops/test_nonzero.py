"""NonZero and Compress against the reference evaluator: output sizes that are data."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import case, check_cases, check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(9)
X = RNG.integers(-1, 2, (3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_nonzero(dims):
    tensors = [X, X > 0, X[0, 0].astype(np.int64), np.zeros((2, 3), np.int32), np.ones((2, 1), np.float64), X[:, :0]]
    check_cases([case("NonZero", x, dims=dims) for x in tensors])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_is_not_zero(dtype):
    x = np.array([[np.nan, 0, -0.0], [-np.inf, 1, np.nan]], dtype)
    check_cases([case("NonZero", x), case("NonZero", x, dims="open")], artifact=True)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_compress(dims):
    def mask(*bits: int) -> np.ndarray:
        return np.array(bits, bool)

    cases = [
        case("Compress", X, mask(1, 0, 1), axis=0, dims=dims),
        case("Compress", X, mask(0, 1), axis=-1, dims=dims),
        case("Compress", X, mask(0, 0, 0, 0), axis=1, dims=dims),
        case("Compress", X, mask(1, 1, 0, 1, 1, 0, 1), dims=dims),
    ]
    check_cases(cases)


def test_what_follows_knows_the_size():
    text = """<ir_version: 10, opset_import: ["" : 20]>
        f (float[n, m] x) => (float[k] picked, int64[k] doubled) {
            places = NonZero(x)
            order = Constant<value_ints=[1, 0]>()
            pairs = Transpose<perm=[1, 0]>(places)
            picked = GatherND(x, pairs)
            first = Constant<value_int=0>()
            rows = Gather(places, first)
            doubled = Add(rows, rows)
        }"""
    check_model(text, [{"x": RNG.integers(0, 2, shape).astype("f")} for shape in [(3, 4), (1, 1), (0, 3)]])


def test_refusals():
    with pytest.raises(ConversionError, match="must be a vector"):
        check_cases([case("Compress", X, X > 0, axis=0, expected=X)])
