"""Every vector function against float64 over the whole float32 range, compiled for this machine and for plain SSE2."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.schedules import vector_math
from onnxkiln.schedules.vector_math import power

COUNT = 1 << 17
TRIGONOMETRY = {"sin", "cos"}  # they have tests of their own, as they need the pass that puts them behind a branch
FUNCTIONS = {name: function for name, function in vector_math.FUNCTIONS.items() if name not in TRIGONOMETRY}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    grown = np.exp(-np.abs(x))
    return np.where(x < 0, grown, 1) / (1 + grown)


REFERENCES = {
    "exp": np.exp,
    "exp2": np.exp2,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
    "sigmoid": _sigmoid,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
}
ISAS = [
    "cpu",
    pytest.param(
        "cpu:x86-64-v1", marks=pytest.mark.skipif(targets.host_architecture() != "x86_64", reason="x86-64 code")
    ),
]


def _compile(function, target: str, count: int = COUNT):
    machine = targets.parse(target)[0]
    data = te.placeholder((count,), "float32", name="data")
    result = te.compute((count,), lambda i: function(data(i)), name="result")
    schedule = Schedule(te.create_prim_func([data, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    schedule.vectorize(schedule.split(loop, [None, machine.vector_lanes])[1])
    return tvm.compile(schedule.mod, target=tvm.target.Target(machine.tvm_json()))


def _run(module, x: np.ndarray) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros_like(x))
    module["main"](tvm.runtime.tensor(x), result)
    return result.numpy()


def _samples(count: int) -> np.ndarray:
    """Half of all float32 bit patterns alike (every exponent, both signs, denormals, NaNs), half in usual ranges."""
    rng = np.random.default_rng(7)
    bits = np.linspace(0, 2**32 - 1, count // 2).astype(np.uint32) ^ rng.integers(0, 256, count // 2, dtype=np.uint32)
    usual = [rng.uniform(-bound, bound, count // 8) for bound in (1, 4, 12, 110)]
    x = np.concatenate([bits.view(np.float32), *(part.astype(np.float32) for part in usual)])
    x[:12] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 88.72284, -103.97, 3.4028235e38]
    return x


def _check(got: np.ndarray, exact: np.ndarray, x: np.ndarray, bound: float) -> None:
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        spacing = np.spacing(np.maximum(np.abs(rounded), np.finfo(np.float32).tiny)).astype(np.float64)
        error = np.abs(got.astype(np.float64) - exact) / spacing
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    error = np.where(finite, error, 0)
    worst = error.argmax()
    assert np.isfinite(got[finite]).all()
    assert error[worst] <= bound, f"{error[worst]:.2f} ulp at {x[worst]!r}: got {got[worst]!r}, want {exact[worst]!r}"


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_within_ulps_everywhere(name: str, target: str) -> None:
    x = _samples(COUNT)
    module = _compile(FUNCTIONS[name], target)
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](x.astype(np.float64))
    _check(_run(module, x), exact, x, 2.5)
    assert not re.search(rf"call\w*\s+_?(f|{name}|floor|round|near)\w*f\b", module.mod.inspect_source("asm"))


def test_references_cover_every_function() -> None:
    assert set(REFERENCES) == set(FUNCTIONS)


def test_signs_of_zero_and_saturation() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf] * 4, np.float32)
    for name, want in {"tanh": [0, -0.0, 1, -1], "erf": [0, -0.0, 1, -1], "exp": [1, 1, np.inf, 0]}.items():
        got = _run(_compile(FUNCTIONS[name], "cpu", 16), x)[:4]
        np.testing.assert_array_equal(got, np.float32(want))
        np.testing.assert_array_equal(np.signbit(got), np.signbit(np.float32(want)))
    assert np.signbit(_run(_compile(FUNCTIONS["log1p"], "cpu", 16), x)[1])


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 4.0, -1.0, -2.0, 0.5, -0.5])
def test_powers(exponent: float) -> None:
    x = _samples(1 << 14)
    got = _run(_compile(lambda value: power(value, exponent), "cpu", 1 << 14), x)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), np.full(x.shape, exponent))  # a scalar 0.5 would be taken for sqrt
    _check(got, exact, x, 4)


@pytest.mark.parametrize("exponent", [2.5, 0.0, 17.0, -3.0])
def test_other_exponents_have_no_short_form(exponent: float) -> None:
    with pytest.raises(ValueError, match="no short form"):
        power(tvm.tirx.Var("x", "float32"), exponent)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_tvms_simplifier_does_no_harm(name: str) -> None:
    """It cancels float sums as if they were exact; bound again inside an outer binding, as nested calls are."""
    x = _samples(1 << 14)
    plain = _compile(FUNCTIONS[name], "cpu", 1 << 14)
    analyzer = tvm.sym.Analyzer()
    outer = tvm.tirx.Var("outer", "float32")
    simplified = _compile(
        lambda value: analyzer.simplify(tvm.tirx.Let(outer, FUNCTIONS[name](value), outer)), "cpu", 1 << 14
    )
    np.testing.assert_array_equal(_run(simplified, x), _run(plain, x))
