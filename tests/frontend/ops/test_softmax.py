"""Softmax, LogSoftmax and Hardmax of all opsets against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import case, check_cases

rng = np.random.default_rng(4)


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_axis(op: str, dims: str) -> None:
    x = rng.standard_normal((2, 3, 5)).astype(np.float32) * 4
    cases = [case(op, x, axis=axis, dims=dims) for axis in (0, 1, 2, -1)] + [case(op, x, dims=dims)]
    cases.append(case(op, x.astype(np.float64), dims=dims))
    if op != "LogSoftmax":  # the reference sums in float16
        cases.append(case(op, x.astype(np.float16), axis=1, dims=dims))
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_flattened_before_opset_13(op: str, dims: str) -> None:
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)

    def flat(axis: int) -> np.ndarray:
        rows = x.reshape(int(np.prod(x.shape[:axis])), -1).astype(np.float64)
        shifted = np.exp(rows - rows.max(1, keepdims=True))
        soft = shifted / shifted.sum(1, keepdims=True)
        hard = np.eye(rows.shape[1])[rows.argmax(1)]
        result = {"Softmax": soft, "LogSoftmax": np.log(soft), "Hardmax": hard}[op]
        return result.reshape(x.shape).astype(np.float32)

    cases = [case(op, x, axis=axis, dims=dims, expected=flat(axis)) for axis in (0, 1, 2)]
    check_cases([*cases, case(op, x, dims=dims, expected=flat(1))], opset=11)


def test_extremes() -> None:
    x = np.array([[1e4, 0, -1e4], [-np.inf, 0, 1], [np.inf, 0, 0], [np.nan, 0, 0], [-np.inf] * 3], np.float32)
    with np.errstate(all="ignore"):
        check_cases([case("Softmax", x), case("Softmax", np.zeros((0, 3), np.float32), dims="open")])
