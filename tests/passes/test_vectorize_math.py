"""Calls of elementary functions in kernels become arithmetic; everything else stays."""

from __future__ import annotations

import math

import ml_dtypes  # noqa: F401  (NumPy learns bfloat16)
import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import ir as I
from tvm.script import tirx as T

from onnxkiln import targets
from onnxkiln.passes.vectorize_math import vectorize_math


def _module(function, dtype: str = "float32", vectorized: bool = False) -> tvm.IRModule:
    data = te.placeholder((64,), dtype, name="data")
    result = te.compute((64,), lambda i: function(data(i)), name="result")
    schedule = Schedule(te.create_prim_func([data, result]))
    if vectorized:
        (loop,) = schedule.get_loops(schedule.get_sblock("result"))
        schedule.vectorize(schedule.split(loop, [None, 16])[1])
    return schedule.mod


def _calls(mod: tvm.IRModule) -> list[str]:
    names: list[str] = []

    def visit(call: tvm.ir.Call) -> None:
        names.append(call.op.name.rpartition(".")[2])

    for function in mod.functions.values():
        tvm_ffi.structural_walk(function.body, (tvm.ir.Call, visit))
    return names


def _run(mod: tvm.IRModule, x: np.ndarray) -> np.ndarray:
    module = tvm.compile(mod, target=tvm.target.Target(targets.host().tvm_json()))
    result = tvm.runtime.tensor(np.zeros_like(x))
    module["main"](tvm.runtime.tensor(x), result)
    return result.numpy()


def test_before_after() -> None:
    @I.ir_module
    class Before:
        @T.prim_func(s_tir=True)
        def main(A: T.Buffer((64,), "float32"), B: T.Buffer((64,), "float32")):
            for i in range(64):
                with T.sblock("B"):
                    v = T.axis.spatial(64, i)
                    B[v] = T.pow(A[v], T.float32(2)) + T.sin(A[v])

    @I.ir_module
    class After:
        @T.prim_func(s_tir=True)
        def main(A: T.Buffer((64,), "float32"), B: T.Buffer((64,), "float32")):
            t0 = T.float32()
            for i in range(64):
                with T.sblock("B"):
                    v = T.axis.spatial(64, i)
                    B[v] = T.Let(t0 * t0, where={t0: A[v]}) + T.sin(A[v])

    mod, count = vectorize_math(Before)
    assert count == 1
    tvm.ir.assert_structural_equal(mod, After, map_free_vars=True)


@pytest.mark.parametrize("vectorized", [False, True])
def test_nested_calls_all_go(vectorized: bool) -> None:
    mod, count = vectorize_math(_module(lambda x: tirx.exp(tirx.tanh(x)) * tirx.erf(x), vectorized=vectorized))
    assert count == 3
    assert not {"exp", "tanh", "erf"} & set(_calls(mod))
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    erf = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(_run(mod, x), np.exp(np.tanh(x.astype(float))) * erf, rtol=1e-6)


def test_leaves_other_code_alone() -> None:
    for before in (
        _module(tirx.exp, "float64"),
        _module(lambda x: tirx.sin(x) + tirx.sqrt(x)),
        _module(lambda x: tirx.pow(x, tirx.const(2.5, "float32"))),
        _module(lambda x: tirx.pow(x, x)),
    ):
        after, count = vectorize_math(before)
        assert count == 0
        tvm.ir.assert_structural_equal(after, before)


def test_half_precision_is_computed_in_float32() -> None:
    mod, count = vectorize_math(_module(tirx.exp, "float16", vectorized=True))
    assert count == 1
    x = np.linspace(-10, 10, 64, dtype=np.float16)
    np.testing.assert_array_equal(_run(mod, x), np.exp(x.astype(np.float64)).astype(np.float16))


def test_bfloat16_is_widened_before_the_replacement() -> None:
    """The cast lies inside the bindings that the replacement makes, where TVM's own legalisation never looks."""
    data = te.placeholder((64,), "bfloat16", name="data")
    result = te.compute((64,), lambda i: tirx.exp(data(i).astype("float32")), name="result")
    mod, count = vectorize_math(tvm.IRModule({"main": te.create_prim_func([data, result])}))
    assert count == 1
    module = tvm.compile(mod, target=tvm.target.Target(targets.host().tvm_json()))
    x, out = np.linspace(-3, 3, 64).astype("bfloat16"), tvm.runtime.tensor(np.zeros(64, np.float32))
    module["main"](tvm.runtime.tensor(x), out)
    np.testing.assert_allclose(out.numpy(), np.exp(x.astype(np.float64)), rtol=1e-6)


def test_vectorised_loop_has_no_library_call() -> None:
    before = _module(tirx.exp, vectorized=True)
    after, _ = vectorize_math(before)
    target = tvm.target.Target(targets.host().tvm_json())
    plain, fast = (tvm.compile(mod, target=target).mod.inspect_source("asm") for mod in (before, after))
    assert "expf" in plain and "expf" not in fast
    if targets.host_architecture() == "x86_64":
        assert "mulps" in fast
