"""Row-wise functions: all stages in one loop over the rows, vector instructions, no library calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.lower import BUILD_CONFIG
from onnxkiln.passes.vectorize_math import vectorize_math
from onnxkiln.schedules import row_functions
from onnxkiln.schedules.row_reduce import MAX, SUM, reduce_rows
from onnxkiln.schedules.row_schedule import schedule_rows

LANES = 16


def _dims(*shape: int | str) -> list[Any]:
    return [tirx.Var(dim, "int64") if isinstance(dim, str) else tirx.const(dim, "int64") for dim in shape]


def _softmax(*shape: int | str) -> tirx.PrimFunc:
    data = te.placeholder(_dims(*shape), "float32", name="data")
    return te.create_prim_func([data, row_functions.softmax(data, LANES)])


def _layer_norm(*shape: int) -> tirx.PrimFunc:
    data = te.placeholder(_dims(*shape), "float32", name="data")
    scale, shift = (te.placeholder(_dims(shape[-1]), "float32", name=name) for name in ("scale", "shift"))
    return te.create_prim_func([data, scale, shift, row_functions.layer_norm(data, scale, shift, 1e-5, LANES)])


def _scheduled(function: tirx.PrimFunc) -> tirx.PrimFunc:
    schedule = Schedule(tvm.IRModule({"main": function}))
    assert schedule_rows(schedule, LANES)
    return schedule.mod["main"]


def _assembly(function: tirx.PrimFunc) -> str:
    mod, _ = vectorize_math(tvm.IRModule({"main": _scheduled(function)}))
    return _compiled(mod, "cpu:x86-64-v4").mod.inspect_source("asm")


def _compiled(mod: tvm.IRModule, target: str = "cpu") -> tvm.runtime.Executable:
    machine = targets.parse(target)[0]
    with tvm.transform.PassContext(config=BUILD_CONFIG):
        return tvm.compile(mod, tvm.target.Target(machine.tvm_json()), tir_pipeline=tir_pipeline.register())


def _top_loops(function: tirx.PrimFunc) -> list[tirx.For]:
    body = function.body.block.body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


@pytest.mark.parametrize(
    "function", [_softmax(256, 100), _softmax("n", 12, "s", "k"), _layer_norm(64, 384)], ids=["known", "open", "norm"]
)
def test_all_stages_share_one_loop_over_the_rows(function: tirx.PrimFunc) -> None:
    stages = len(_top_loops(function))
    assert stages > 5
    (rows,) = _top_loops(_scheduled(function))
    assert rows.kind == tirx.ForKind.PARALLEL
    vectors: list[tirx.For] = []
    tvm_ffi.structural_walk(rows, (tirx.For, lambda loop: vectors.append(loop)))
    assert sum(loop.kind == tirx.ForKind.VECTORIZED for loop in vectors) >= 6


def test_small_work_stays_on_one_thread() -> None:
    (rows,) = _top_loops(_scheduled(_softmax(4, 100)))
    assert rows.kind == tirx.ForKind.SERIAL


@pytest.mark.parametrize("length", [384, 100, "k"])
def test_softmax_is_vector_code(length: int | str) -> None:
    assembly = _assembly(_softmax("n", length))
    assert not re.search(r"call\w*\s+\*?\w*(exp|floor|round)f", assembly)
    assert len(re.findall(r"vfmadd\w+ps\s.*%zmm", assembly)) >= 6
    assert "vmaxps" in assembly


def test_layer_norm_is_vector_code() -> None:
    assembly = _assembly(_layer_norm(64, 384))
    assert len(re.findall(r"v(add|fmadd\w+)ps\s.*%zmm", assembly)) >= 8
    assert len(re.findall(r"vsubps\s.*%zmm", assembly)) >= 4


def test_other_functions_are_left_alone() -> None:
    data = te.placeholder(_dims(8, 8), "float32", name="data")
    function = te.create_prim_func([data, te.compute(data.shape, lambda i, j: data(i, j) + 1.0)])
    schedule = Schedule(tvm.IRModule({"main": function}))
    assert not schedule_rows(schedule, LANES)
    tvm.ir.assert_structural_equal(schedule.mod["main"], function)


def _reduced(value: Callable[..., Any], reducer: Any, length: int | str, x: np.ndarray) -> np.ndarray:
    rows = _dims("n")
    dims = [*rows, *_dims(length)]
    data = te.placeholder(dims, "float32", name="data")
    total = reduce_rows(lambda r, k: value(data(r, k)), rows, dims[1], "float32", reducer, LANES, "total")
    last = te.compute(rows, lambda r: total(r), name="last", attrs={"rows": 1, "kiln.template": "row_reduce"})
    module = _compiled(tvm.IRModule({"main": _scheduled(te.create_prim_func([data, last]))}))
    out = tvm.runtime.tensor(np.zeros(x.shape[0], np.float32))
    module["main"](tvm.runtime.tensor(x), out)
    return out.numpy()


@pytest.mark.parametrize("length", [1, 15, 16, 17, 64, 67, 80, 83, 200])
def test_reductions_of_expressions(length: int) -> None:
    x = np.random.default_rng(length).normal(size=(5, length)).astype(np.float32)
    for size in (length, "k"):
        got = _reduced(lambda v: v * v, SUM, size, x)
        np.testing.assert_allclose(got, (x.astype(np.float64) ** 2).sum(-1), rtol=1e-6)
        np.testing.assert_array_equal(_reduced(lambda v: v, MAX, size, x), x.max(-1))


@pytest.mark.parametrize("factor", [16, 64, 192, 48])
def test_lengths_that_are_a_multiple_of_a_dim_have_no_rest(factor: int) -> None:
    """A loop over nothing kept functions from being scheduled, and left what it should begin with unwritten."""
    n = tirx.Var("n", "int64")
    data = te.placeholder([tirx.const(2, "int64"), n * factor], "float32", name="data")
    rows = [tirx.const(2, "int64")]
    total = reduce_rows(lambda r, k: data(r, k), rows, n * factor, "float32", MAX, LANES, "total")
    last = te.compute(rows, lambda r: total(r), name="last", attrs={"rows": 1, "kiln.template": "row_reduce"})
    function = te.create_prim_func([n, data, last])
    empty: list[tirx.For] = []

    def visit(loop: tirx.For) -> None:
        if isinstance(loop.extent, tirx.IntImm) and loop.extent.value == 0:
            empty.append(loop)

    tvm_ffi.structural_walk(function.body, (tirx.For, visit), order="post")
    assert not empty


def test_long_sums_keep_their_precision() -> None:
    """64 running sums and a tree: one running sum over a million numbers would be 7e-6 off."""
    x = np.random.default_rng(0).uniform(size=(1, 1_000_003)).astype(np.float32)
    exact = x.astype(np.float64).sum(-1)
    np.testing.assert_allclose(_reduced(lambda v: v, SUM, x.shape[1], x), exact, rtol=2e-6)


def test_what_is_applied_to_the_result_joins_the_rows() -> None:
    """A mask of fewer elements, fused with what applies it, stands behind the softmax that it doesn't read."""
    data, mask = (te.placeholder(_dims(*shape), "float32", name="x") for shape in ((5, 3, 20), (5, 1, 1)))
    soft = row_functions.softmax(data, LANES)
    factor = te.compute(mask.shape, lambda *i: tirx.Select(mask(*i) < 0.0, tirx.const(0.0, "float32"), mask(*i)))
    masked = te.compute(data.shape, lambda i, j, k: soft(i, j, k) * factor(i, 0, 0))
    function = _scheduled(te.create_prim_func([data, mask, masked]))
    assert len(_top_loops(function)) == 1
    x, y = (np.random.default_rng(n).normal(size=n).astype(np.float32) for n in ((5, 3, 20), (5, 1, 1)))
    out = tvm.runtime.tensor(np.zeros(x.shape, np.float32))
    _compiled(tvm.IRModule({"main": function}))["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(y), out)
    powers = np.exp(x - x.max(-1, keepdims=True))
    np.testing.assert_allclose(out.numpy(), powers / powers.sum(-1, keepdims=True) * np.maximum(y, 0), rtol=1e-5)
