"""TensorScatter against the reference evaluator, and where that says nothing."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(2)
CACHE = RNG.standard_normal((2, 3, 7, 5)).astype(np.float32)
UPDATE = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open", "shared"])
def test_against_reference(dims):
    linear, wrapped = np.array([3, 0]), np.array([5, 13])
    cases = [
        case("TensorScatter", CACHE, UPDATE, linear, dims=dims),
        case("TensorScatter", CACHE, UPDATE, dims=dims),
        case("TensorScatter", CACHE, UPDATE, wrapped, mode="circular", dims=dims),
        case("TensorScatter", CACHE.astype(np.float16), UPDATE.astype(np.float16), wrapped, mode="circular", dims=dims),
        case(
            "TensorScatter", CACHE[..., 0].astype(np.int64), UPDATE[..., 0].astype(np.int64), linear, axis=2, dims=dims
        ),
        case("TensorScatter", CACHE[:, 0], UPDATE[:, 0, :, :], linear, axis=1, dims=dims),
        case("TensorScatter", CACHE, UPDATE[:, :, :0], linear, dims=dims, expected=CACHE),
    ]
    check_cases(cases, opset=24)


def test_bfloat16():
    cache, update = CACHE.astype(ml_dtypes.bfloat16), UPDATE.astype(ml_dtypes.bfloat16)
    wanted = cache.copy()
    wanted[0, :, 1:5], wanted[1, :, 2:6] = update
    check_cases([case("TensorScatter", cache, update, np.array([1, 2]), expected=wanted)], opset=24)


def test_what_lands_outside_falls_away():
    wanted = CACHE.copy()
    wanted[0, :, 6], wanted[1, :, :3] = UPDATE[0, :, 0], UPDATE[1, :, 1:]
    check_cases([case("TensorScatter", CACHE, UPDATE, np.array([6, -1]), expected=wanted)], opset=24)


def test_refusals():
    with pytest.raises(ConversionError, match="updates: 7 are more than the 4 that the data has"):
        check_cases([case("TensorScatter", UPDATE, CACHE, expected=UPDATE)], opset=24)
    with pytest.raises(ConversionError, match="along axis 3 must agree, found 4 and 5"):
        check_cases([case("TensorScatter", CACHE, UPDATE[..., 1:], expected=CACHE)], opset=24)
