"""Reductions against the reference evaluator: axes as attribute and input, empty axes, empty tensors, NaN."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Const, case, check_cases

rng = np.random.default_rng(3)
ALL = ["Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp"]


def axes(*values: int) -> Const:
    return Const(np.array(values, np.int64))


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("name", ALL)
def test_axes(name: str, dims: str) -> None:
    x = np.abs(rng.standard_normal((2, 3, 5)).astype(np.float32)) + 0.1
    op = f"Reduce{name}"
    check_cases(
        [
            case(op, x, axes(1), dims=dims),
            case(op, x, axes(-1, 0), dims=dims, keepdims=0),
            case(op, x, dims=dims),
            case(op, x, dims=dims, keepdims=0),
            case(op, x, axes(), dims=dims),
            case(op, x, axes(), dims=dims, noop_with_empty_axes=1, expected=_without_axes(name, x)),
        ],
        opset=18,
    )


def _without_axes(name: str, x: np.ndarray) -> np.ndarray:
    """A reduction over no axes: only what is done to each element."""
    inner = {"SumSquare": np.square, "L1": np.abs, "L2": np.abs, "LogSum": np.log}
    return inner.get(name, lambda value: value)(x)


@pytest.mark.parametrize("name", ALL)
def test_axes_attribute(name: str) -> None:
    x = np.abs(rng.standard_normal((2, 3, 4)).astype(np.float32)) + 0.1
    check_cases(
        [
            case(f"Reduce{name}", x, axes=[0, 2]),
            case(f"Reduce{name}", x, axes=[1], keepdims=0),
            case(f"Reduce{name}", x),
        ],
        opset=11,
    )


@pytest.mark.parametrize("dims", ["fixed", "first"])
def test_axes_known_at_run_time(dims: str) -> None:
    x = np.abs(rng.standard_normal((2, 3, 5)).astype(np.float32)) + 0.1
    one, two, none = np.array([1]), np.array([-1, 0]), np.array([], np.int64)
    cases = [case(f"Reduce{name}", x, one, dims=dims) for name in ("Sum", "Prod", "Mean", "L2")]
    cases += [case("ReduceSum", x, two, dims=dims, keepdims=0), case("ReduceMax", x, two, dims=dims)]
    cases += [case("ReduceMean", (x * 9).astype(np.int32), two, dims=dims, keepdims=0, expected=_int_mean(x))]
    cases += [case("ReduceLogSumExp", x, one, dims=dims, keepdims=0), case("ReduceSum", x, none)]
    cases += [case("ReduceMax", np.zeros((2, 0), np.float32), one, dims=dims)]
    check_cases(cases, opset=20)


def _int_mean(x: np.ndarray) -> np.ndarray:
    return np.trunc((x * 9).astype(np.int32).sum((0, 2)) / 10).astype(np.int32)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_float_types(dtype: type) -> None:
    x = (np.abs(rng.standard_normal((3, 33))) + 0.1).astype(dtype)
    exact = x.astype(np.float64)
    expected = {
        "Sum": exact.sum(1), "Mean": exact.mean(1), "Max": exact.max(1), "L2": np.sqrt((exact**2).sum(1)),
        "LogSumExp": np.log(np.exp(exact).sum(1)),
    }  # fmt: skip
    cases = [
        case(f"Reduce{name}", x, axes(1), keepdims=0, expected=value.astype(dtype)) for name, value in expected.items()
    ]
    check_cases(cases)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_integers(dtype: str) -> None:
    x = rng.integers(0 if dtype[0] == "u" else -9, 9, (3, 7)).astype(dtype)
    operators = ["Sum", "Max", "Min", "Prod", "L1"]
    square = (x * x).sum(1, dtype=dtype)
    mean = np.trunc(x.astype(np.float64).sum(1) / 7).astype(dtype)
    cases = [case(f"Reduce{name}", x, axes(1), dims="open") for name in operators]
    cases.append(case("ReduceSumSquare", x, axes(1), keepdims=0, dims="open", expected=square))
    check_cases([*cases, case("ReduceMean", x, axes(1), keepdims=0, dims="open", expected=mean)])


def test_bools_and_bytes() -> None:
    x = np.array([[True, False], [False, False]])
    check_cases(
        [case(op, x, axes(1)) for op in ("ReduceMax", "ReduceMin")]
        + [case(op, x.astype(np.uint8), axes(1)) for op in ("ReduceMax", "ReduceMin")]
    )


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_empty_axis(dims: str) -> None:
    x = np.zeros((2, 0, 3), np.float32)
    operators = ["Sum", "Prod", "Max", "Min", "SumSquare", "L1", "L2", "LogSum", "LogSumExp"]
    cases = [case(f"Reduce{name}", x, axes(1), dims=dims) for name in operators]
    cases.append(case("ReduceMean", x, axes(1), dims=dims, expected=np.full((2, 1, 3), np.nan, np.float32)))
    cases.append(case("ReduceMean", x.astype(np.int32), axes(1), dims=dims, expected=np.zeros((2, 1, 3), np.int32)))
    check_cases(cases, opset=20)


def test_nan_and_infinities() -> None:
    x = np.array([[1, np.nan, 3], [-np.inf, -np.inf, -np.inf], [np.inf, 1, 2], [np.nan, 5, 1]], np.float32)
    cases = [case(op, x, axes(1)) for op in ("ReduceMax", "ReduceMin", "ReduceSum")]
    log_sum_exp = np.array([np.nan, -np.inf, np.inf, np.nan], np.float32)
    check_cases([*cases, case("ReduceLogSumExp", x, axes(1), keepdims=0, expected=log_sum_exp)])
    big = np.array([[1000.0, 1000.0], [-1000.0, -1001.0]], np.float32)
    check_cases([case("ReduceLogSumExp", big, axes(1))])


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_arg(op: str, dims: str) -> None:
    x = rng.integers(0, 4, (3, 5, 4)).astype(np.float32)
    x[0, 1, 2] = np.nan
    minus = np.full((2, 3), -np.inf, np.float32)
    cases = [
        case(op, x, axis=1, dims=dims),
        case(op, x, dims=dims),
        case(op, x, axis=-1, keepdims=0, dims=dims),
        case(op, x.astype(np.float64)[1:], axis=2, select_last_index=1, dims=dims),
        case(op, np.nan_to_num(x).astype(np.int32), axis=1, select_last_index=1, keepdims=0, dims=dims),
        case(op, minus, axis=1, dims=dims),
        case(op, -minus, axis=1, select_last_index=1, dims=dims),
        case(op, np.nan_to_num(x).astype(np.float16), axis=1, dims=dims),
    ]
    check_cases(cases)
