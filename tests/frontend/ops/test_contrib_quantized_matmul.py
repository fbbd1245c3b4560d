"""QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, check_cases
from ort_case import by_runtime

rng = np.random.default_rng(14)
MS = "com.microsoft"
A, B = rng.integers(0, 256, (5, 37)).astype(np.uint8), rng.integers(-128, 128, (37, 18)).astype(np.int8)
ONE, ZERO = Const(np.float32(0.02)), Const(np.uint8(120))
COLUMNS = [Const(rng.uniform(0.01, 0.1, 18).astype(np.float32)), Const(np.zeros(18, np.int8))]
BIAS = rng.standard_normal(18).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_qgemm(dims: str) -> None:
    bias = Const(rng.integers(-999, 999, 18).astype(np.int32))
    out = [Const(np.float32(0.7)), Const(np.uint8(99))]
    turned = {"transA": 1, "transB": 1, "alpha": 0.7}
    each = [Const(np.float32(0.03)), Const(np.int8(4))]
    items = [
        Case("QGemm", [A, ONE, ZERO, Const(B), *COLUMNS, bias, *out], domain=MS, dims=dims),
        Case("QGemm", [A, ONE, ZERO, Const(B), *COLUMNS, bias], domain=MS, dims=dims),
        Case("QGemm", [A.T.copy(), ONE, ZERO, Const(B.T.copy()), *each, None, *out], turned, domain=MS, dims=dims),
        Case("QGemm", [A, ONE, ZERO, B, *each], domain=MS, dims=dims),
    ]
    check_cases([by_runtime(item) for item in items], rtol=1e-6)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_to_floats(dims: str) -> None:
    x = rng.standard_normal((2, 5, 37)).astype(np.float32)
    zero, scales = Const(np.int8(3)), [ONE, COLUMNS[0]]
    items = [
        Case("MatMulIntegerToFloat", [A, Const(B), *scales, ZERO, COLUMNS[1], Const(BIAS)], domain=MS, dims=dims),
        Case("MatMulIntegerToFloat", [A, Const(B), np.float32(0.03), ONE], domain=MS, dims=dims),
        Case("DynamicQuantizeMatMul", [x, Const(B), COLUMNS[0], COLUMNS[1], Const(BIAS)], domain=MS, dims=dims),
        Case("DynamicQuantizeMatMul", [x, Const(B), ONE, zero], domain=MS, dims=dims),
        Case("DynamicQuantizeMatMul", [x, Const(B), ONE], domain=MS, dims=dims),
    ]
    check_cases([by_runtime(item) for item in items], rtol=1e-5, atol=1e-5)
