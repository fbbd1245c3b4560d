"""Expand to shapes that are constants, shape arithmetic, or read from a tensor when the model runs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.parser import parse_model
from onnx_check import Compiled, Const, case, check_cases, check_model


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "first"])
@pytest.mark.parametrize("known", [True, False])
def test_shapes(dims: str, known: bool) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    targets = [ints(2, 4, 3), ints(1, 4, 1), ints(5, 2, 1, 3), ints(3), ints(1), ints(2, 0, 3)]
    cases = [case("Expand", x, Const(target) if known else target, dims=dims) for target in targets]
    cases.append(case("Expand", np.float32(7).reshape(()), Const(ints(2, 3)) if known else ints(2, 3)))
    check_cases(cases)


def test_to_the_shape_of_another_tensor() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (int64[n, 1] x, float[k, m] y) => (int64[p, q] z) {
        s = Shape(y)
        z = Expand(x, s)
    }"""
    sizes = [(1, 3, 4), (3, 3, 4), (3, 1, 2), (1, 1, 1)]
    feeds = [{"x": np.arange(n).reshape(n, 1), "y": np.zeros((k, m), np.float32)} for n, k, m in sizes]
    check_model(text, feeds)
    with pytest.raises(Exception, match=r"(?i)shape|match|dim"):
        Compiled(parse_model(text))({"x": np.zeros((2, 1), np.int64), "y": np.zeros((3, 4), np.float32)})
