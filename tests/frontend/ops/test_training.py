"""Adagrad, Adam and Momentum against the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_check import Case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(13)


def _case(op_type: str, kinds: int, count: int = 3, dtype: Any = np.float32, **attributes: Any) -> Case:
    shapes = [(3, 5), (7,)]
    tensors = [RNG.random(shape).astype(dtype) for _ in range(kinds) for shape in shapes]
    inputs = [np.array(0.1, dtype), np.array(count), *tensors]
    return Case(op_type, inputs, attributes, len(shapes) * (kinds - 1), domain="ai.onnx.preview.training")


def _momentum(mode: str, **more: Any) -> Case:
    return _case("Momentum", 3, mode=mode, alpha=0.9, beta=0.7, norm_coefficient=0.01, **more)


def test_against_reference() -> None:
    adam = {"alpha": 0.9, "beta": 0.999, "epsilon": 1e-2, "norm_coefficient": 0.01, "norm_coefficient_post": 0.02}
    cases = [
        _case("Adagrad", 3, norm_coefficient=0.001, epsilon=1e-5, decay_factor=0.1),
        _case("Adam", 4, **adam),
        _case("Adam", 4, count=0, **adam),
        _case("Adam", 4, count=40000, **adam),
        _momentum("standard"),
        _momentum("nesterov"),
        _momentum("standard", count=0),
    ]
    check_cases(cases, rtol=1e-5)


def test_refusals() -> None:
    four, domain = [np.zeros(2, "f")] * 4, "ai.onnx.preview.training"
    wrong = Case("Adagrad", [np.array(0.1, "f"), np.array(0), *four], {}, 1, expected=four[:1], domain=domain)
    with pytest.raises(ConversionError, match="4 tensors are no multiple of 3"):
        check_cases([wrong])
