"""ReverseSequence against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import case, check_cases

from onnxkiln.errors import ConversionError

X = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_both_orders_of_axes(dims):
    whole = X.copy()
    whole[:, 0] = X[::-1, 0]
    check_cases(
        [
            case("ReverseSequence", X, i64(1, 4, 2), dims=dims),
            case("ReverseSequence", X, i64(3, 1, 2, 0), time_axis=1, batch_axis=0, dims=dims),
            case("ReverseSequence", X, i64(2**40, 0, -5), dims=dims, expected=whole),
        ]
    )


def test_refusals():
    with pytest.raises(ConversionError, match="must be the first two axes"):
        check_cases([case("ReverseSequence", X, i64(1, 1), time_axis=2, batch_axis=1, expected=X)])
