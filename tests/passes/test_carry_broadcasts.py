"""Vectors that repeat a bfloat16 or float8 element can be stored; vectors of other types are left alone."""

from __future__ import annotations

import ml_dtypes  # noqa: F401  (NumPy learns bfloat16)
import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.carry_broadcasts import carry_broadcasts


def repeated(dtype: str) -> tvm.IRModule:
    """64 times one element, 16 at a time."""
    data = te.placeholder((1,), dtype, name="data")
    result = te.compute((64,), lambda i: data(i // 64), name="result")
    schedule = Schedule(te.create_prim_func([data, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    schedule.vectorize(schedule.split(loop, [None, 16])[1])
    return schedule.mod


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_elements_are_repeated(dtype: str) -> None:
    target = tvm.target.Target(targets.host().tvm_json())
    compiled = tvm.compile(repeated(dtype), target, tir_pipeline=tir_pipeline.register())
    result = tvm.runtime.tensor(np.zeros(64, dtype))
    compiled["main"](tvm.runtime.tensor(np.array([1.5]).astype(dtype)), result)
    np.testing.assert_array_equal(result.numpy().astype(np.float32), np.full(64, 1.5))


def spread(dtype: str) -> tvm.IRModule:
    @T.prim_func
    def main(A: T.Buffer((1,), dtype), B: T.Buffer((16,), dtype)):
        for i in T.vectorized(16):
            B[i] = A[0]

    return tirx.transform.VectorizeLoop(True)(tvm.IRModule({"main": main}))


def test_other_vectors_are_left_alone() -> None:
    plain = spread("float16")
    tvm.ir.assert_structural_equal(carry_broadcasts()(plain), plain)
    narrow = spread("bfloat16")
    assert "reinterpret" in str(carry_broadcasts()(narrow)) and "reinterpret" not in str(narrow)
