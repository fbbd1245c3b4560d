"""Unary operators against the reference evaluator, over floats of all widths and integers at their edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import case, check_cases

FLOATS = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.5, -2.5, 3.5, 0.3, 7.0, -7.0, np.inf, -np.inf, np.nan]
ANYWHERE = [
    "Abs",
    "Neg",
    "Exp",
    "Erf",
    "Tanh",
    "Sigmoid",
    "Floor",
    "Ceil",
    "Round",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Sign",
    "Sqrt",
    "Log",
    "Reciprocal",
]
PERIODIC = ["Sin", "Cos", "Tan", "Asin", "Acos", "Acosh", "Atanh"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: str) -> None:
    special = np.array(SPECIAL, FLOATS[dtype])
    inside = np.linspace(-0.99, 0.99, 21).astype(FLOATS[dtype])
    beyond = np.linspace(1, 30, 21).astype(FLOATS[dtype])
    cases = [case(op, special, dims="open") for op in ANYWHERE]
    cases += [case(op, beyond if op == "Acosh" else inside) for op in PERIODIC]
    cases += [case(op, beyond) for op in ("Sin", "Cos", "Exp", "Log", "Tanh")]
    cases += [
        case("IsNaN", special),
        case("IsInf", special),
        case("IsInf", special, detect_negative=0),
        case("IsInf", special, detect_positive=0),
    ]
    check_cases(cases, rtol=1e-5 if dtype != "float64" else 1e-9)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint64"])
def test_integers(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([0, 1, 3, info.max, info.min, info.min + 1], dtype)
    check_cases([case(op, x) for op in ["Abs", "Sign"] + ["Neg"] * (info.min < 0)])


def test_empty() -> None:
    check_cases([case(op, np.zeros((0, 3), np.float32), dims="open") for op in ("Exp", "Neg", "Sign")])
