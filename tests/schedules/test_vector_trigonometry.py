"""Sine and cosine against float64, huge arguments included, at which the library takes over."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.vectorize_math import vectorize_math

COUNT = 1 << 17
FUNCTIONS = {"sin": (tirx.sin, np.sin), "cos": (tirx.cos, np.cos)}


def _compile(name: str, target: str = "cpu", count: int = COUNT) -> tvm.runtime.Executable:
    machine = targets.parse(target)[0]
    data = te.placeholder((count,), "float32", name="data")
    result = te.compute((count,), lambda i: FUNCTIONS[name][0](data(i)), name="result")
    schedule = Schedule(te.create_prim_func([data, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    schedule.vectorize(schedule.split(loop, [None, machine.vector_lanes])[1])
    mod, replaced = vectorize_math(schedule.mod)
    assert replaced == 1
    return tvm.compile(mod, tvm.target.Target(machine.tvm_json()), tir_pipeline=tir_pipeline.register())


def _run(module: tvm.runtime.Executable, x: np.ndarray) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros_like(x))
    module["main"](tvm.runtime.tensor(x), result)
    return result.numpy()


def _samples() -> np.ndarray:
    """All exponents and both signs; usual angles; the float32 neighbours of multiples of pi/2, where digits cancel."""
    rng = np.random.default_rng(11)
    bits = np.linspace(0, 2**32 - 1, COUNT // 2).astype(np.uint32) ^ rng.integers(0, 256, COUNT // 2, dtype=np.uint32)
    turns = (rng.integers(-(2**18), 2**18, COUNT // 4) * (np.pi / 2)).astype(np.float32)
    usual = rng.uniform(-30, 30, COUNT // 4).astype(np.float32)
    x = np.concatenate([bits.view(np.float32), turns, usual])
    x[:8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 524288.0, -524288.06, 1e-45]
    return x


@pytest.mark.parametrize("target", ["cpu", "cpu:x86-64-v1"])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_within_ulps_everywhere(name: str, target: str) -> None:
    if target != "cpu" and targets.host_architecture() != "x86_64":
        pytest.skip("x86-64 code")
    x = _samples()
    got = _run(_compile(name, target), x)
    with np.errstate(invalid="ignore"):
        exact = FUNCTIONS[name][1](x.astype(np.float64))
    finite = np.isfinite(x)
    assert np.isnan(got[~finite]).all()
    spacing = np.spacing(np.maximum(np.abs(exact[finite]).astype(np.float32), np.finfo(np.float32).tiny))
    error = np.abs(got[finite].astype(np.float64) - exact[finite]) / spacing
    worst = error.argmax()
    assert error[worst] <= 2.5, f"{error[worst]:.2f} ulp at {x[finite][worst]!r}"


def test_zero_keeps_its_sign() -> None:
    x = np.array([0.0, -0.0] * 8, np.float32)
    got = _run(_compile("sin", count=16), x)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(x))
    np.testing.assert_array_equal(_run(_compile("cos", count=16), x), np.ones(16, np.float32))
