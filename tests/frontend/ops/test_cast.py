"""Casts between all types, out-of-range floats included, against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import np_dtype_to_tensor_dtype
from onnx_check import case, check_cases

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
TYPES = [np.dtype(name) for name in ["float32", "float64", "float16", "bool", *INTEGERS]]
TYPES.append(np.dtype(ml_dtypes.bfloat16))


def values(dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([0, 1, 5, 100, info.max, info.min], dtype)
    if dtype.kind == "b":
        return np.array([True, False])
    return np.array([0.0, -0.0, 0.5, 1.5, -1.5, 3.99, 100.0, 0.1, -7.9], dtype)


@pytest.mark.parametrize("source", TYPES, ids=str)
def test_every_pair(source: np.dtype) -> None:
    data = values(source)
    cases = []
    for target in TYPES:
        inputs = data
        if source.kind not in "iub" and target.kind == "u":
            inputs = np.abs(data)
        with np.errstate(all="ignore"):
            cases.append(
                case("Cast", inputs, to=np_dtype_to_tensor_dtype(target), dims="open", expected=inputs.astype(target))
            )
    check_cases(cases)


def test_floats_out_of_range() -> None:
    """What x86 does: the low bits of a 32-bit conversion for small integers."""
    data = np.array([-1.0, 200.0, 300.7, -129.0, 70000.0, -3e4], np.float32)
    low = data.astype(np.int64)
    check_cases(
        [
            case("Cast", data, to=TensorProto.INT8, expected=low.astype(np.int8)),
            case("Cast", data, to=TensorProto.UINT8, expected=low.astype(np.uint8)),
            case("Cast", data, to=TensorProto.INT16, expected=low.astype(np.int16)),
            case("Cast", data, to=TensorProto.UINT16, expected=low.astype(np.uint16)),
            case("Cast", data, to=TensorProto.UINT32, expected=low.astype(np.uint32)),
            case("Cast", data, to=TensorProto.UINT64, expected=low.astype(np.uint64)),
            case(
                "Cast",
                np.array([2.0**63, 1.5 * 2.0**63]),
                to=TensorProto.UINT64,
                expected=np.array([1 << 63, 3 << 62], np.uint64),
            ),
            case(
                "Cast",
                np.array([np.nan, 0, 0.1, -np.inf], np.float32),
                to=TensorProto.BOOL,
                expected=np.array([True, False, True, True]),
            ),
        ]
    )


def test_cast_like() -> None:
    check_cases(
        [
            case("CastLike", np.array([1.7, -2.2], np.float32), np.array([1], np.int64)),
            case("CastLike", np.array([1, 0]), np.array([True])),
        ]
    )
