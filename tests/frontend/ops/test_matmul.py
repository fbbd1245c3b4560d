"""MatMul and Gemm against the reference evaluator: ranks, batch broadcasting, open dims, transposes, factors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Compiled, Const, case, check_cases, joined

rng = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open", "shared"])
def test_matmul(dims: str) -> None:
    check_cases(
        [
            case("MatMul", floats(3, 5), floats(5, 7), dims=dims),
            case("MatMul", floats(3, 5), Const(floats(5, 7)), dims=dims),
            case("MatMul", floats(5), floats(5, 7), dims=dims),
            case("MatMul", floats(3, 5), floats(5), dims=dims),
            case("MatMul", floats(5), floats(5), dims=dims),
            case("MatMul", floats(2, 3, 5), floats(5, 4), dims=dims),
            case("MatMul", floats(2, 3, 5), floats(2, 5, 4), dims=dims),
            case("MatMul", floats(2, 1, 3, 5), floats(4, 5, 2), dims=dims),
            case("MatMul", floats(1, 3, 5), floats(2, 5, 1), dims=dims),
            case("MatMul", floats(5), floats(2, 5, 3), dims=dims),
            case("MatMul", floats(0, 5), floats(5, 3), dims=dims),
            case("MatMul", floats(3, 0), floats(0, 2), dims=dims),
        ]
    )


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_many_matrices_of_few_rows(dims: str) -> None:
    """Time in front, as recurrent models have it: all steps are one product, with any number of leading dims."""
    shapes = [(7, 1, 5), (7, 3, 5), (2, 3, 1, 5), (1, 1, 5), (0, 1, 5), (3, 1, 0), (5, 9, 5)]
    check_cases([case("MatMul", floats(*shape), Const(floats(shape[-1], 17)), dims=dims) for shape in shapes])
    check_cases([case("MatMul", floats(7, 1, 5), floats(5, 3), dims=dims)], artifact=True)


def test_many_single_rows_are_one_product() -> None:
    model, _, _ = joined([case("MatMul", floats(50, 1, 5), Const(floats(5, 17)))], 20)
    assert "(50, 5)" in Compiled(model).imported.module.script()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int32, np.int64, np.uint32])
def test_types(dtype: type) -> None:
    a, b = (rng.integers(0, 9, shape).astype(dtype) for shape in ((3, 33), (33, 5)))
    expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)
    check_cases([case("MatMul", a, b, expected=expected), case("MatMul", a, Const(b), dims="open", expected=expected)])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_gemm(dims: str) -> None:
    a, b = floats(3, 5), floats(5, 4)
    check_cases(
        [
            case("Gemm", a, b, dims=dims),
            case("Gemm", a, b, floats(4), dims=dims),
            case("Gemm", a, Const(b), Const(floats(4)), dims=dims),
            case("Gemm", a, Const(b), Const(floats(4)), dims=dims, alpha=0.5, beta=2.0),
            case("Gemm", a, b, floats(3, 1), dims=dims, alpha=0.25, beta=0.5),
            case("Gemm", a.T.copy(), b.T.copy(), floats(3, 4), dims=dims, transA=1, transB=1),
            case("Gemm", a, Const(b.T.copy()), floats(), dims=dims, transB=1),
            case("Gemm", a, b, floats(1, 4), dims=dims, beta=0.0),
            case("Gemm", a.astype(np.float64), b.astype(np.float64), dims=dims),
        ]
    )


def test_old_gemm_broadcast() -> None:
    a, b, c = floats(3, 5), floats(5, 4), floats(4)
    check_cases([case("Gemm", a, b, c, broadcast=1, expected=a @ b + c)], opset=6)


def test_disagreeing_dims_fail_when_run() -> None:
    from onnx.parser import parse_model
    from onnx_check import Compiled

    compiled = Compiled(
        parse_model(
            '<ir_version: 8, opset_import: ["": 17]>'
            "g (float[n,k] x, float[q,m] y) => (float[n,m] z) { z = MatMul(x, y) }"
        )
    )
    assert compiled({"x": floats(2, 3), "y": floats(3, 4)})[0].shape == (2, 4)
    with pytest.raises(Exception, match=r"(?i)shape|match|dim"):
        compiled({"x": floats(2, 5), "y": floats(3, 4)})


def test_factors_of_integers_are_floats() -> None:
    a, b, c = (rng.integers(-9, 9, shape).astype(np.int32) for shape in [(3, 5), (5, 4), (4,)])
    exact = 0.5 * (a @ b)
    check_cases(
        [
            case("Gemm", a, b, alpha=0.5, expected=exact.astype(np.int32)),
            case("Gemm", a, Const(b), c, alpha=0.5, beta=2.5, expected=(exact + 2.5 * c).astype(np.int32)),
            case("Gemm", a, b, Const(c), beta=0.5, expected=(a @ b + 0.5 * c).astype(np.int32)),
            case("Gemm", a, b, c, expected=a @ b + c),
            case("Gemm", a.astype(np.uint32), b.astype(np.uint32), alpha=0.0, expected=np.zeros((3, 4), np.uint32)),
        ]
    )
