"""Small scratch buffers stay on the stack; large ones and those of unknown size come from TVM's workspace."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.keep_on_stack import LIMIT, keep_on_stack
from onnxkiln.passes.lower import BUILD_CONFIG
from onnxkiln.schedules.blocks import MEMORY_SCOPE

KEEP = "disable_lower_builtin"


def _scratch(count: object, dtype: str = "float32") -> tvm.IRModule:
    buffer = tirx.decl_buffer([count], dtype, name="scratch")
    body = tirx.SeqStmt([tirx.AllocBuffer(buffer), tirx.Evaluate(tirx.BufferLoad(buffer, [tirx.const(0, "int64")]))])
    return tvm.IRModule({"main": tirx.PrimFunc([], body)})


def _marks(mod: tvm.IRModule) -> list[bool]:
    found: list[bool] = []
    tvm_ffi.structural_walk(mod["main"], (tirx.AllocBuffer, lambda alloc: found.append(KEEP in alloc.annotations)))
    return found


@pytest.mark.parametrize(
    ("count", "dtype", "kept"),
    [
        (0, "float32", False),
        (1, "float32", True),
        (LIMIT // 4, "float32", True),
        (LIMIT // 4 + 1, "float32", False),
        (LIMIT // 64, "float32x16", True),
        (LIMIT // 64 + 1, "float32x16", False),
        (LIMIT, "int8", True),
        (tirx.Var("n", "int64"), "float32", False),
    ],
)
def test_by_size(count: object, dtype: str, kept: bool) -> None:
    before = _scratch(count, dtype)
    after = keep_on_stack()(before)
    assert _marks(after) == [kept]
    if not kept:
        tvm.ir.assert_structural_equal(after, before)


def test_what_belongs_in_memory_is_volatile() -> None:
    """So that LLVM doesn't hold it in registers, beside other sums: all would be spilled."""
    assert _annotations("global") == {KEEP}
    assert _annotations(MEMORY_SCOPE) == {KEEP, "tirx.volatile"}


def _annotations(scope: str) -> set[str]:
    buffer = tirx.decl_buffer([384], "float32", name="sums", scope=scope)
    load = tirx.Evaluate(tirx.BufferLoad(buffer, [tirx.const(0, "int64")]))
    after = keep_on_stack()(tvm.IRModule({"main": tirx.PrimFunc([], tirx.SeqStmt([tirx.AllocBuffer(buffer), load]))}))
    found: set[str] = set()
    tvm_ffi.structural_walk(after["main"], (tirx.AllocBuffer, lambda alloc: found.update(alloc.annotations)))
    return found


def test_sums_of_a_tile_are_registers() -> None:
    """2 KB of sums: no call for memory, and the right numbers."""
    left, right = te.placeholder((64, 96), name="left"), te.placeholder((96, 32), name="right")
    k = te.reduce_axis((0, 96), name="k")
    sums = te.compute((64, 32), lambda i, j: te.sum(left[i, k] * right[k, j], axis=k), name="sums")
    result = te.compute((64, 32), lambda i, j: sums[i, j] + 1.0, name="result")
    schedule = Schedule(te.create_prim_func([left, right, result]))
    block = schedule.get_sblock("sums")
    i, j, depth = schedule.get_loops(block)
    tile, row = schedule.split(i, [None, 16])
    schedule.reorder(tile, depth, row, j)
    schedule.reverse_compute_at(schedule.get_sblock("result"), tile)
    schedule.decompose_reduction(block, depth)
    with tvm.transform.PassContext(config=BUILD_CONFIG):
        target = tvm.target.Target(targets.host().tvm_json())
        built = tvm.compile(schedule.mod, target, tir_pipeline=tir_pipeline.register())
    assert "AllocWorkspace" not in built.mod.inspect_source("ll")
    a, b = np.random.default_rng(0).standard_normal((2, 64, 96)).astype("float32")
    b = np.ascontiguousarray(b.reshape(-1)[: 96 * 32].reshape(96, 32))
    got = tvm.runtime.tensor(np.zeros((64, 32), "float32"))
    built["main"](tvm.runtime.tensor(a), tvm.runtime.tensor(b), got)
    np.testing.assert_allclose(got.numpy(), a @ b + 1, rtol=1e-4, atol=1e-4)
