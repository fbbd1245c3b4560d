"""MelWeightMatrix against the reference evaluator, all inputs known only at run time."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from onnx_check import case, check_cases

SIZES = [
    (8, 16, 8192, 0.0, 4096.0),
    (40, 512, 16000, 60.0, 7600.0),
    (80, 400, 16000, 0.0, 8000.0),
    (3, 7, 100, 10.0, 50.0),
]


def test_against_reference():
    cases = []
    for bins, length, rate, low, high in SIZES:
        numbers = (np.int64(bins), np.int64(length), np.int64(rate), np.float32(low), np.float32(high))
        cases.append(case("MelWeightMatrix", *(np.array(number) for number in numbers)))
    inputs = [
        np.array(10, np.int32),
        np.array(64, np.int32),
        np.array(8000, np.int32),
        np.float32(20),
        np.float32(4000),
    ]
    cases.append(case("MelWeightMatrix", *map(np.array, inputs), output_datatype=TensorProto.DOUBLE))
    check_cases(cases, opset=17)
