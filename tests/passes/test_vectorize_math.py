"""Calls of elementary functions in kernels become arithmetic; everything else stays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes  # noqa: F401  (NumPy learns bfloat16)
import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import ir as I
from tvm.script import tirx as T

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.lower import BUILD_CONFIG
from onnxkiln.passes.vectorize_math import MARK, expand_math, vectorize_math


def _module(function: Callable[[Any], Any], dtype: str = "float32", vectorized: bool = False) -> tvm.IRModule:
    data = te.placeholder((64,), dtype, name="data")
    result = te.compute((64,), lambda i: function(data(i)), name="result")
    schedule = Schedule(te.create_prim_func([data, result]))
    if vectorized:
        (loop,) = schedule.get_loops(schedule.get_sblock("result"))
        schedule.vectorize(schedule.split(loop, [None, 16])[1])
    return schedule.mod


def _compile(mod: tvm.IRModule) -> tvm.runtime.Executable:
    target = tvm.target.Target(targets.host().tvm_json())
    with tvm.transform.PassContext(config=BUILD_CONFIG):
        return tvm.compile(mod, target, tir_pipeline=tir_pipeline.register())


def _run(mod: tvm.IRModule, x: np.ndarray, dtype: str = "float32") -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros(x.shape, dtype))
    _compile(mod)["main"](tvm.runtime.tensor(x), result)
    return result.numpy()


def test_before_after() -> None:
    @I.ir_module
    class Before:
        @T.prim_func
        def main(A: T.Buffer((64,), "float32"), B: T.Buffer((64,), "float32")):
            T.func_attr({"kiln.vector_math": True})
            for i in range(64):
                B[i] = T.pow(A[i], T.float32(2)) + T.asin(A[i])

    @I.ir_module
    class After:
        @T.prim_func
        def main(A: T.Buffer((64,), "float32"), B: T.Buffer((64,), "float32")):
            for i in range(64):
                argument = T.alloc_buffer((1,))
                argument[0] = A[i]
                t0 = T.float32()
                B[i] = T.Let(t0 * t0, where={t0: argument[0]}) + T.asin(A[i])

    tvm.ir.assert_structural_equal(expand_math()(Before), After, map_free_vars=True)


def test_only_marked_functions_are_expanded() -> None:
    before = _module(tirx.exp)
    tvm.ir.assert_structural_equal(expand_math()(before), before)
    after, count = vectorize_math(before)
    assert count == 1
    assert MARK in after["main"].attrs


@pytest.mark.parametrize("vectorized", [False, True])
def test_nested_calls(vectorized: bool) -> None:
    mod, count = vectorize_math(_module(lambda x: tirx.exp(tirx.tanh(x)) * tirx.erf(x), vectorized=vectorized))
    assert count == 3
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    erf = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(_run(mod, x), np.exp(np.tanh(x.astype(float))) * erf, rtol=1e-6)


def test_leaves_other_code_alone() -> None:
    for before in (
        _module(tirx.exp, "float64"),
        _module(lambda x: tirx.asin(x) + tirx.sqrt(x)),
        _module(lambda x: tirx.pow(x, tirx.const(2.5, "float32"))),
        _module(lambda x: tirx.pow(x, x)),
    ):
        after, count = vectorize_math(before)
        assert count == 0
        tvm.ir.assert_structural_equal(after, before)


@pytest.mark.parametrize("vectorized", [False, True])
def test_guarded_calls_stay_under_their_guard(vectorized: bool) -> None:
    """The argument is read out of bounds where the guard is false."""
    data = te.placeholder((40,), "float32", name="data")
    padded = te.compute((64,), lambda i: tirx.if_then_else(i < 40, tirx.exp(data(i) * 2.0), 0.0), name="padded")
    schedule = Schedule(te.create_prim_func([data, padded]))
    if vectorized:
        (loop,) = schedule.get_loops(schedule.get_sblock("padded"))
        schedule.vectorize(schedule.split(loop, [None, 16])[1])
    mod, _ = vectorize_math(schedule.mod)
    x, out = np.linspace(-3, 3, 40, dtype=np.float32), tvm.runtime.tensor(np.ones(64, np.float32))
    _compile(mod)["main"](tvm.runtime.tensor(x), out)
    np.testing.assert_allclose(out.numpy(), np.pad(np.exp(2 * x), (0, 24)), rtol=1e-6)
    assert "argument" not in str(expand_math()(mod))


def test_small_logarithms_keep_their_digits() -> None:
    mod, _ = vectorize_math(_module(lambda x: tirx.log(tirx.const(1.0, "float32") + tirx.exp(x)), vectorized=True))
    x = np.linspace(-40, 40, 64, dtype=np.float32)
    np.testing.assert_allclose(_run(mod, x), np.log1p(np.exp(x.astype(np.float64))), rtol=1e-6)


def test_half_precision_is_computed_in_float32() -> None:
    mod, count = vectorize_math(_module(tirx.exp, "float16", vectorized=True))
    assert count == 1
    x = np.linspace(-10, 10, 64, dtype=np.float16)
    np.testing.assert_array_equal(_run(mod, x, "float16"), np.exp(x.astype(np.float64)).astype(np.float16))


def test_bfloat16_is_widened_first() -> None:
    """TVM's own legalisation never looks into the bindings that a replacement consists of."""
    x = np.linspace(-3, 3, 64).astype("bfloat16")
    exact = np.exp(x.astype(np.float64))
    widened, _ = vectorize_math(_module(lambda v: tirx.exp(v.astype("float32")), "bfloat16", vectorized=True))
    np.testing.assert_allclose(_run(widened, x), exact, rtol=1e-6)
    narrow, count = vectorize_math(_module(tirx.exp, "bfloat16", vectorized=True))
    assert count == 1
    np.testing.assert_allclose(_run(narrow, x, "bfloat16").astype(np.float64), exact, rtol=1 / 256)


def test_vectorised_loop_has_no_library_call() -> None:
    before = _module(tirx.exp, vectorized=True)
    after, _ = vectorize_math(before)
    plain, fast = (_compile(mod).mod.inspect_source("asm") for mod in (before, after))
    assert "expf" in plain and "expf" not in fast
    if targets.host_architecture() == "x86_64":
        assert "mulps" in fast


def test_chains_compile_in_moderate_time() -> None:
    """Bindings around a fused expression took TVM a hundred times as long as it takes now."""

    def chain(x: Any) -> Any:
        for step in range(5):
            x = x * 0.5 + float(step)
            x = x * tirx.sigmoid(x)
        return x

    start = time.perf_counter()
    mod, _ = vectorize_math(_module(chain, vectorized=True))
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    got = _run(mod, x)
    assert time.perf_counter() - start < 20
    exact = x.astype(np.float64)
    for step in range(5):
        exact = exact * 0.5 + step
        exact = exact / (1 + np.exp(-exact))
    np.testing.assert_allclose(got, exact, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["erf", "log1p"])
def test_library_calls_in_vectors(function: str, dtype: str) -> None:
    """Of float32 there are vector forms; of float64 each lane is a call, whatever the loop around it is marked as."""
    data = te.placeholder((48,), dtype, name="data")
    result = te.compute((48,), lambda i: getattr(tirx, function)(data[i]), name="result")
    schedule = Schedule(te.create_prim_func([data, result]).with_attr("global_symbol", "main"))
    schedule.vectorize(schedule.split(schedule.get_loops(schedule.get_sblock("result"))[0], [None, 16])[1])
    mod, count = vectorize_math(schedule.mod)
    assert count == (dtype == "float32")
    built = _compile(mod)
    x = np.linspace(-0.9, 3, 48).astype(dtype)
    got = tvm.runtime.tensor(np.zeros_like(x))
    built["main"](tvm.runtime.tensor(x), got)
    expected = np.vectorize(getattr(math, function))(x.astype("float64"))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6 if dtype == "float32" else 1e-14)
