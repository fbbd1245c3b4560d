"""Entries of constant matrices: numbers where the indices are, choices where they aren't."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule
from tvm.script import ir as I
from tvm.script import tirx as T

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.fold_coefficients import fold_coefficients
from onnxkiln.passes.lower import BUILD_CONFIG
from onnxkiln.schedules.coefficients import MATRICES, coefficient


def test_before_after() -> None:
    @I.ir_module
    class Before:
        @T.prim_func
        def main(A: T.Buffer((2,), "float32")):
            A[0] = T.call_pure_extern("float32", "kiln.coefficient.winograd_output_2", 1, 2)
            A[1] = T.call_pure_extern("float32", "kiln.coefficient.winograd_output_2", 0, 3)

    @I.ir_module
    class After:
        @T.prim_func
        def main(A: T.Buffer((2,), "float32")):
            A[0] = T.float32(-1)
            A[1] = T.float32(0)

    tvm.ir.assert_structural_equal(fold_coefficients()(Before), After)


def test_other_calls_stay() -> None:
    @I.ir_module
    class Before:
        @T.prim_func
        def main(A: T.Buffer((2,), "float32")):
            A[0] = T.call_pure_extern("float32", "sinf", A[1])
            A[1] = T.exp(A[1])

    tvm.ir.assert_structural_equal(fold_coefficients()(Before), Before)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("unrolled", [True, False])
def test_numbers(name: str, unrolled: bool) -> None:
    matrix = MATRICES[name]
    entries = te.compute(matrix.shape, lambda i, j: coefficient(name, i, j), name="entries")
    schedule = Schedule(te.create_prim_func([entries]))
    for loop in schedule.get_loops("entries") if unrolled else []:
        schedule.unroll(loop)
    with tvm.transform.PassContext(config=BUILD_CONFIG):
        target = tvm.target.Target(targets.host().tvm_json())
        built = tvm.compile(schedule.mod, target, tir_pipeline=tir_pipeline.register())
    result = tvm.runtime.tensor(np.full(matrix.shape, np.nan, "float32"))
    built["main"](result)
    np.testing.assert_array_equal(result.numpy(), matrix.astype("float32"))
