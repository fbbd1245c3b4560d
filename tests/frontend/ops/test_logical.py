"""Comparisons, logic, bits and Where against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

rng = np.random.default_rng(1)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_comparisons(dims: str) -> None:
    a = np.array([[1, 2, 3], [np.nan, -0.0, np.inf]], np.float32)
    b = np.array([1, 3, 2], np.float32)
    whole = rng.integers(-3, 3, (2, 3))
    operators = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
    cases = [case(op, a, b, dims=dims) for op in operators]
    cases += [case(op, whole, Const(np.array(1)), dims=dims) for op in operators]
    cases += [case(op, whole.astype(np.uint8), whole[:1].astype(np.uint8), dims=dims) for op in operators]
    cases += [case(op, a.astype(np.float16), b.astype(np.float16), dims=dims) for op in operators]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_bools(dims: str) -> None:
    a = np.array([[False, False, True, True]])
    b = np.array([[False, True, False, True]])
    cases = [case(op, a, b, dims=dims) for op in ("And", "Or", "Xor", "Equal")]
    cases += [case("Xor", a, b.reshape(4, 1), dims=dims), case("Equal", a, Const(np.array(True)), dims=dims)]
    check_cases([*cases, case("Not", a, dims=dims)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int32", "int64"])
def test_bits(dtype: str) -> None:
    info = np.iinfo(dtype)
    a = np.array([0, 1, 5, info.max, info.min, 77], dtype)
    b = np.array([3, 1, 4, 2, 1, info.max], dtype)
    cases = [case(op, a, b, dims="open") for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")] + [case("BitwiseNot", a)]
    if info.min == 0:
        width = info.bits
        shifts = np.array([0, 1, 2, width - 1, width, width + 3], dtype)
        left = np.array([(int(x) << int(s)) & info.max for x, s in zip(a, shifts, strict=True)], dtype)
        right = np.array([int(x) >> int(s) for x, s in zip(a, shifts, strict=True)], dtype)
        cases += [
            case("BitShift", a, shifts, direction="LEFT", expected=left),
            case("BitShift", a, shifts, direction="RIGHT", expected=right),
        ]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_where(dims: str) -> None:
    condition = np.array([[True], [False]])
    a, b = rng.standard_normal((2, 3)).astype(np.float32), rng.standard_normal((1, 3)).astype(np.float32)
    whole = rng.integers(-5, 5, (2, 3))
    check_cases(
        [
            case("Where", condition, a, b, dims=dims),
            case("Where", condition, Const(np.float32(-np.inf)), a, dims=dims),
            case("Where", condition, whole, Const(np.array(7)), dims=dims),
            case("Where", condition, condition, ~condition, dims=dims),
            case("Where", np.array(True), a, b, dims=dims),
        ]
    )


def test_shifts_of_signed_numbers() -> None:
    a = np.array([-8, 8, -1, 7], np.int32)
    amounts = np.array([1, 2, 40, -1], np.int32)
    left, right = np.array([-16, 32, 0, 0], np.int32), np.array([-4, 2, -1, 0], np.int32)
    check_cases(
        [
            case("BitShift", a, amounts, direction="LEFT", expected=left),
            case("BitShift", a, amounts, direction="RIGHT", expected=right),
        ],
        opset=28,
    )
