"""Concat and Split against the reference evaluator, with sizes that only run time knows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open", "shared"])
def test_concat(dims):
    check_cases(
        [
            case("Concat", floats(2, 3, 4), floats(2, 5, 4), floats(2, 0, 4), axis=1, dims=dims),
            case("Concat", floats(2, 3), floats(1, 3), axis=-2, dims=dims),
            case("Concat", floats(2, 3), axis=1, dims=dims),
            case("Concat", floats(0, 3), floats(0, 3), axis=0, dims=dims),
            case("Concat", floats(0, 3), floats(0, 1), axis=1, dims=dims),
            case("Concat", floats(1, 3), Const(floats(2, 3)), axis=0, dims=dims),
            case("Concat", i64(1), i64(2, 3), i64(4), axis=0, dims=dims),
        ]
    )


def test_concat_of_dims_that_only_run_time_can_compare():
    text = """<ir_version: 10, opset_import: ["" : 20]>
        f (float[a, n] x, float[b, m] y) => (float[c, d] z) { z = Concat<axis=0>(x, y) }"""
    check_model(text, {"x": floats(2, 3), "y": floats(4, 3)})
    with pytest.raises(Exception, match="match"):
        Compiled(onnx.parser.parse_model(text))({"x": floats(2, 3), "y": floats(4, 2)})


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_split(dims):
    x = floats(7, 6)
    check_cases(
        [
            case("Split", x, Const(i64(3, 0, 4)), outputs=3, dims=dims),
            case("Split", x, Const(i64(1, 5)), outputs=2, axis=-1, dims=dims),
            case("Split", x, num_outputs=3, outputs=3, axis=1, dims=dims),
            case("Split", x, num_outputs=3, outputs=3, axis=0, dims=dims),
            case("Split", x, num_outputs=4, outputs=4, axis=0, dims=dims),
            case("Split", x, i64(2, 5), outputs=2, axis=0, dims=dims)
            if dims == "fixed"
            else case("Split", x, num_outputs=1),
        ]
    )


def test_split_of_older_opsets():
    x = floats(4, 6)
    check_cases([case("Split", x, outputs=2, axis=1), case("Split", x, Const(i64(1, 3)), outputs=2)], opset=13)
    check_cases([case("Split", x, outputs=2, axis=1, dims="open"), case("Split", x, outputs=2, split=[1, 3])], opset=11)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Concat", floats(2, 3), floats(2, 4), axis=0, expected=floats(1)), "axis 1 must agree, found 3 and 4"),
        (case("Concat", floats(2, 3), floats(2), axis=0, expected=floats(1)), "different ranks"),
        (case("Concat", floats(2), floats(2), axis=1, expected=floats(1)), "axis 1 does not exist"),
        (case("Split", floats(4), Const(i64(1, 2)), outputs=2, expected=[floats(1)] * 2), "don't add up to the size 4"),
        (case("Split", floats(4), Const(i64(5, -1)), outputs=2, expected=[floats(1)] * 2), "negative size -1"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
