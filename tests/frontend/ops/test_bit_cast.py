"""BitCast against NumPy's views."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto
from onnx_check import case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(1)
PAIRS = [
    (np.float32, TensorProto.INT32, np.int32),
    (np.int32, TensorProto.FLOAT, np.float32),
    (np.float64, TensorProto.UINT64, np.uint64),
    (np.float16, TensorProto.INT16, np.int16),
    (np.int16, TensorProto.FLOAT16, np.float16),
    (np.uint8, TensorProto.INT8, np.int8),
    (np.uint16, TensorProto.UINT16, np.uint16),
]


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_bits_stay(dims):
    cases = []
    for source, to, wanted in PAIRS:
        for shape in ((3, 17), (), (0, 2)):
            x = np.frombuffer(RNG.bytes(np.dtype(source).itemsize * int(np.prod(shape))), source).reshape(shape)
            x = _without_nan(x, wanted)
            cases.append(case("BitCast", x, to=to, dims=dims, expected=x.view(wanted)))
    flags = np.array([True, False, True])
    cases.append(case("BitCast", flags, to=TensorProto.INT8, dims=dims, expected=flags.view(np.int8)))
    bits = np.array([1, 0, 1], np.uint8)
    cases.append(case("BitCast", bits, to=TensorProto.BOOL, dims=dims, expected=flags))
    check_cases(cases, opset=26)


def _without_nan(x: np.ndarray, wanted: type) -> np.ndarray:
    """A NaN's payload is no number that the comparison of results would look at."""
    viewed = x.view(wanted)
    return np.where(np.isnan(viewed), x.dtype.type(0), x) if viewed.dtype.kind == "f" else x


def test_bfloat16():
    x = RNG.standard_normal((5, 3)).astype(ml_dtypes.bfloat16)
    check_cases([case("BitCast", x, to=TensorProto.UINT16, expected=x.view(np.uint16))], opset=26)
    bits = x.view(np.int16)
    check_cases([case("BitCast", bits, to=TensorProto.BFLOAT16, expected=x)], opset=26)


def test_refusals():
    with pytest.raises(ConversionError, match="the bits of float32 can't be read as int16"):
        check_cases([case("BitCast", np.zeros(2, np.float32), to=TensorProto.INT16, expected=np.zeros(2))], opset=26)
