"""CumSum and CumProd against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

rng = np.random.default_rng(7)


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_cumulative(op: str, dims: str) -> None:
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    axis, last = Const(np.array(1)), Const(np.array(-1, np.int32))
    check_cases(
        [
            case(op, x, axis, dims=dims),
            case(op, x, last, dims=dims, exclusive=1),
            case(op, x, axis, dims=dims, reverse=1),
            case(op, x, axis, dims=dims, reverse=1, exclusive=1),
            case(op, rng.integers(-3, 3, (2, 4)).astype(np.int32), axis, dims=dims),
            case(op, rng.integers(-3, 3, (4,)), Const(np.array(0)), dims=dims),
            case(op, x.astype(np.float64), axis, dims=dims),
            case(op, x, np.array(-2), dims=dims),
            case(op, x, np.array(2), dims=dims, exclusive=1),
            case(op, np.zeros((2, 0), np.float32), axis, dims=dims),
        ],
        opset=14 if op == "CumSum" else 26,
    )
