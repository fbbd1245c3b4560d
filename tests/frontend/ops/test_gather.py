"""Gather, GatherElements and GatherND against the reference evaluator; no index can read out of bounds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3, 4)).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_gather(dims):
    cases = [
        case("Gather", X, Const(np.array(index)), axis=axis, dims=dims)
        for index in (2, -1, [0, -1], [[0, 1], [-2, 2]])
        for axis in (0, 1, -1)
    ]
    cases += [
        case("Gather", X, index, axis=1, dims=dims) for index in (np.array(-2), i64(-1, 2, 0), i64(0, -3).astype("i4"))
    ]
    cases += [
        case("Gather", X, np.zeros((0, 2), np.int64), dims=dims),
        case("Gather", np.zeros((3, 0), np.float32), i64(1), dims=dims),
        case("Gather", np.zeros((0, 3), np.float32), np.zeros(0, np.int64), dims=dims),
        case("Gather", i64(5, 6, 7), np.array(1), dims=dims),
        case("Gather", Const(X), i64(1, -5), dims=dims),
        case("Gather", np.array([True, False]), i64(1, 1, 0), dims=dims),
        case("Gather", X.astype(np.float16), Const(i64(1, 4))),
    ]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_gather_elements(dims):
    cases = []
    for axis in (0, 1, -1):
        size = X.shape[axis]
        for shape in [X.shape, (2, 2, 2), (0, 1, 1)]:
            indices = RNG.integers(-size, size, shape)
            grid = list(np.indices(shape))  # the evaluator wants equal sizes along the other axes, ONNX does not
            grid[axis] = indices
            cases.append(case("GatherElements", X, indices, axis=axis, dims=dims, expected=X[tuple(grid)]))
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_gather_nd(dims):
    sized = {"dims": dims}
    pairs = np.stack([RNG.integers(-5, 5, (2, 6)), RNG.integers(-3, 3, (2, 6))], -1)
    cases = [
        case("GatherND", X, Const(pairs), **sized),
        case("GatherND", X, Const(RNG.integers(-3, 3, (5, 2, 1))), batch_dims=1, **sized),
        case("GatherND", X, Const(RNG.integers(-4, 4, (5, 3, 1))), batch_dims=2, **sized),
        case("GatherND", X, Const(np.zeros((0, 3), np.int64)), **sized),
    ]
    if dims == "fixed":
        cases += [case("GatherND", X, pairs), case("GatherND", X, RNG.integers(-3, 3, (5, 1)), batch_dims=1)]
    check_cases(cases)


def test_index_that_is_an_expression_over_dims():
    check_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        f (float[seq, 4] x) => (float[4] last) {
            zero = Constant<value_int=0>()
            one = Constant<value_int=1>()
            shape = Shape(x)
            n = Gather(shape, zero)
            i = Sub(n, one)
            last = Gather(x, i)
        }""",
        [{"x": RNG.standard_normal((n, 4)).astype("f")} for n in (1, 7)],
    )


def test_indices_out_of_range_are_clamped():
    indices = i64(2**62, -(2**62), 5, -6, 4)
    nearest = [4, 0, 4, 0, 4]
    columns = np.broadcast_to(indices[:, None, None], (5, 3, 4)).copy()
    clamped = np.broadcast_to(np.array(nearest)[:, None, None], (5, 3, 4))
    check_cases(
        [
            case("Gather", X, indices, expected=X[nearest]),
            case("GatherElements", X, columns, expected=np.take_along_axis(X, clamped, 0)),
            case("GatherND", X, indices[:, None], expected=X[nearest]),
        ]
    )


def test_nothing_is_read_from_an_empty_dim():
    text = """<ir_version: 10, opset_import: ["" : 20]>
        f (float[n, 2] x, int64[k] i) => (float[k, 2] y) { y = Gather(x, i) }"""
    model = Compiled(onnx.parser.parse_model(text))
    (kept,) = model({"x": np.zeros((0, 2), np.float32), "i": np.zeros(0, np.int64)})
    assert kept.shape == (0, 2)
    with pytest.raises(Exception, match="match"):
        model({"x": np.zeros((0, 2), np.float32), "i": np.zeros(1, np.int64)})


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Gather", X, Const(i64(5)), expected=X), "index 5 does not exist in a dim of size 5"),
        (case("Gather", X, Const(i64(0)), axis=3, expected=X), "axis 3 does not exist"),
        (case("GatherElements", X, i64(0), expected=X), "rank 3, indices have rank 1"),
        (case("GatherND", X, np.zeros((1, 4), np.int64), expected=X), "4 entries for 3 dims"),
        (case("GatherND", X, np.zeros((1, 4), np.int64), dims="open", expected=X), "must be known when compiling"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
