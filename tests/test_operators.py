"""Operators through the whole compiler: what passes, fusion and schedules could get wrong, on odd and open sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.parser import parse_model
from onnx_check import Const, assert_same, case, check_cases, run_artifact

rng = np.random.default_rng(10)
SPECIAL = np.array(
    [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.5, -2.5, 0.3, 7.0, -7.0, np.inf, -np.inf, np.nan, 3.5, 1e-40, 90], np.float32
)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_elementary_functions(dims: str) -> None:
    operators = ["Exp", "Log", "Tanh", "Sigmoid", "Erf", "Sqrt", "Sinh", "Cosh", "Atan", "Softplus", "Relu", "Round"]
    finite = SPECIAL[np.isfinite(SPECIAL)]
    cases = [case(op, SPECIAL, dims=dims) for op in operators] + [
        case(op, finite, dims=dims) for op in ("Sin", "Mish", "Gelu")
    ]
    cases += [
        case("Max", SPECIAL, SPECIAL[::-1].copy(), dims=dims),
        case("Clip", SPECIAL, Const(np.float32(-1)), dims=dims),
    ]
    check_cases(cases, rtol=1e-5, atol=1e-6, artifact=True)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_rows(dims: str) -> None:
    x, y = floats(3, 37), np.array([[1, np.nan, 3], [-np.inf, -np.inf, -np.inf]], np.float32)
    axis = Const(np.array([1]))
    cases = [case(f"Reduce{name}", x, axis, dims=dims) for name in ("Sum", "Max", "LogSumExp", "L2")]
    cases += [case("ReduceMax", y, axis, dims=dims), case("ReduceSum", np.zeros((2, 0), np.float32), axis, dims=dims)]
    cases += [case("Softmax", x, dims=dims), case("LogSoftmax", x, dims=dims), case("ArgMax", y, axis=1, dims=dims)]
    cases += [case("LayerNormalization", x, Const(floats(37)), Const(floats(37)), dims=dims)]
    cases += [case("CumSum", x, Const(np.array(1)), dims=dims)]
    check_cases(cases, rtol=1e-4, atol=1e-5, artifact=True)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_products(dims: str) -> None:
    cases = [
        case("MatMul", floats(3, 5), Const(floats(5, 17)), dims=dims),
        case("MatMul", floats(2, 3, 5), floats(2, 5, 7), dims=dims),
    ]
    cases += [case("Einsum", floats(2, 4, 3, 5), floats(2, 6, 3, 5), equation="bqhd,bkhd->bhqk", dims=dims)]
    cases += [case("MatMul", floats(3, 0), floats(0, 2), dims=dims)]
    check_cases(cases, rtol=1e-4, atol=1e-5, artifact=True)


def test_sizes_chosen_when_run() -> None:
    a, b = floats(2, 1, 3), floats(5, 1)
    cases = [case(op, a, b, dims="open") for op in ("Add", "Mul", "Greater")] + [
        case("Sum", floats(2, 5, 3), a, b, dims="open")
    ]
    cases += [case("Expand", a, np.array([2, 4, 3])), case("ReduceSum", a, np.array([1]))]
    whole = np.array([-7, 7, -(2**31), 5], np.int32)
    by = np.array([2, -2, -1, 0], np.int32)
    cases += [case("Div", whole, by, dims="open", expected=np.array([-3, -3, -(2**31), 0], np.int32))]
    check_cases(cases, artifact=True)


def test_several_ranges_over_open_sizes() -> None:
    model = parse_model(
        """<ir_version: 8, opset_import: ["": 18]> g (float[n, m] x) => (int64[p] z) {
            s = Shape(x)
            zero = Constant<value_int = 0>()
            one = Constant<value_int = 1>()
            n = Gather(s, zero)
            m = Gather(s, one)
            end = Add(n, m)
            a = Range(zero, n, one)
            b = Range(m, end, one)
            z = Mul(a, b)
        }"""
    )
    result = run_artifact(model, {"x": np.zeros((4, 3), np.float32)})
    assert_same(result[0], np.arange(4) * np.arange(3, 7), "z")
