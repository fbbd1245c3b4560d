"""Tile against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

X = np.arange(6, dtype=np.float32).reshape(2, 1, 3)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_repeats(dims):
    check_cases([case("Tile", X, Const(i64(*r)), dims=dims) for r in [(2, 3, 1), (1, 1, 1), (1, 5, 2), (0, 1, 1)]])
    check_cases(
        [case("Tile", X > 2, Const(i64(1, 2, 2)), dims=dims), case("Tile", X[:, :, :0], Const(i64(2, 2, 2)), dims=dims)]
    )


def test_repeats_read_at_run_time():
    check_cases([case("Tile", X, i64(2, 3, 1)), case("Tile", X, i64(1, 0, 4))])
    text = '<ir_version: 10, opset_import: ["" : 20]> f (float[n] x) => (float[m] y) { r = Shape(x) y = Tile(x, r) }'
    check_model(text, [{"x": np.arange(n, dtype=np.float32)} for n in (1, 3, 0)])


@pytest.mark.parametrize(("repeats", "words"), [((2,), "1 repeats for a tensor of rank 3"), ((1, -1, 1), "-1 times")])
def test_refusals(repeats, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([case("Tile", X, Const(i64(*repeats)), expected=X)])
