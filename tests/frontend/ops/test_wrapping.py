"""Integers wrap around where they overflow, with constants too, whose folding LLVM bases on promises of no overflow."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def extremes(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    half = int(info.max) // 2
    near = [info.min, info.min + 1, info.max, info.max - 1, half, half + 1, -half // 3, 0, 1, 2, 3, -1, -2, 0x12345678]
    return np.array([number % (int(info.max) - int(info.min) + 1) for number in map(int, near)], "uint64").astype(dtype)


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul"])
def test_every_pair_of_extremes(op_type: str) -> None:
    function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[op_type]
    cases = []
    for dtype in INTEGERS:
        x = extremes(dtype)
        with np.errstate(over="ignore"):
            wanted = function(x[:, None], x[None, :])
            cases.append(case(op_type, x[:, None], x[None, :], expected=wanted))
            for number in (x[5], x[11]):
                constant = Const(np.array([number], dtype))
                cases.append(case(op_type, x, constant, expected=function(x, number)))
                cases.append(case(op_type, constant, x, expected=function(number, x)))
    check_cases(cases, artifact=True)


def test_negation_of_the_least() -> None:
    signed = [extremes(dtype) for dtype in INTEGERS if dtype[0] == "i"]
    check_cases([case(op, x) for x in signed for op in ("Neg", "Abs")], artifact=True)
