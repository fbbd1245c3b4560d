"""TopK against the reference evaluator: ties, every axis, few and many, k known at run time."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(8)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def topk(x: np.ndarray, k: int, axis: int = -1, largest: int = 1, dims: str = "fixed", wrap: type = Const) -> Case:
    """Of equal elements the one with the lower index comes first."""
    keys = -x.astype(np.float64) if largest else x.astype(np.float64)
    indices = np.take(np.argsort(keys, axis, kind="stable"), range(k), axis).astype(np.int64)
    expected = [np.take_along_axis(x, indices, axis), indices]
    given = i64(k) if wrap is np.ndarray else Const(i64(k))
    return case("TopK", x, given, outputs=2, axis=axis, largest=largest, dims=dims, expected=expected)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_axes_ties_and_sizes(dims):
    x, ties = RNG.standard_normal((3, 7, 5)).astype("f"), RNG.integers(0, 4, (2, 45, 3)).astype("f")
    cases = [topk(x, 3, axis, largest, dims) for axis in (0, 1, -1) for largest in (0, 1)]
    cases += [topk(ties, k, 1, largest, dims) for k in (1, 20, 33, 45) for largest in (0, 1)]
    cases += [topk(x, 0, 1, dims=dims), topk(x[:0], 2, 1, dims=dims), topk(x[:, :1], 1, 1, dims=dims)]
    check_cases(cases)


def test_dtypes_and_k_read_at_run_time():
    x = RNG.standard_normal((2, 40)) * 50
    cases = [topk(x.astype(t), k) for t in ("float16", "float64", "int8", "uint8", "int32", "int64") for k in (5, 40)]
    cases += [topk(x.astype("f"), k, wrap=np.ndarray) for k in (1, 7, 40, 0)]
    check_cases(cases)


def test_older_opsets():
    x = RNG.standard_normal((2, 40)).astype("f")
    check_cases([case("TopK", x, Const(i64(4)), outputs=2, axis=-1)], opset=10)
    wanted = topk(x, 4).expected
    check_cases([case("TopK", x, outputs=2, k=4, expected=list(wanted))], opset=9)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            case("TopK", np.zeros(3, "f"), Const(i64(4)), outputs=2, expected=[i64(0)] * 2),
            "k is 4, axis 0 has 3 elements",
        ),
        (
            case("TopK", np.zeros(3, "f"), Const(i64(1)), outputs=2, axis=1, expected=[i64(0)] * 2),
            "axis 1 does not exist",
        ),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
