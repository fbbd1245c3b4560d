"""Loops over a row are cut where padding ends; taps in the padding are skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import ir as I
from tvm.script import tirx as T

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.lower import BUILD_CONFIG
from onnxkiln.passes.peel_borders import peel_borders
from onnxkiln.schedules.blocks import PEEL_KEY


def _run(mod: tvm.IRModule) -> tvm.IRModule:
    return peel_borders()(mod)


def _loops(mod: tvm.IRModule, name: str) -> list[tirx.For]:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(mod["main"], (tirx.For, found.append))
    return [loop for loop in found if loop.loop_var.name == name]


def _conditions(node: Any) -> list[str]:
    found: list[Any] = []
    tvm_ffi.structural_walk(node, (tirx.IfThenElse, found.append))
    return [str(item.condition) for item in found]


def test_before_after() -> None:
    @I.ir_module
    class Before:
        @T.prim_func
        def main(A: T.Buffer((64,), "float32"), W: T.Buffer((6,), "float32"), B: T.Buffer((48,), "float32")):
            for y in range(4):
                for t in T.serial(3, annotations={"kiln.peel_borders": True}):
                    for r in range(2):
                        for s in range(3):
                            for x in range(4):
                                B[y * 12 + t * 4 + x] = (
                                    B[y * 12 + t * 4 + x]
                                    + T.if_then_else(
                                        y + r >= 1 and t * 4 + x + s >= 1 and t * 4 + x + s < 12,
                                        A[y * 12 + r * 12 + t * 4 + x + s - 13],
                                        T.float32(0),
                                    )
                                    * W[r * 3 + s]
                                )

    after = _run(Before)
    first, middle, last = _loops(after, "t")
    assert [int(loop.extent) for loop in (first, middle, last)] == [1, 1, 1]
    assert len(_conditions(first)) == len(_conditions(last)) == 3
    (rows,) = _conditions(middle)  # around the loops over the window's columns, for all of them
    assert "y" in rows and "t" not in rows.replace("int64", "")
    assert not _loops(after, "t")[1].annotations


def test_left_alone() -> None:
    @I.ir_module
    class Plain:
        @T.prim_func
        def main(A: T.Buffer((8,), "float32"), B: T.Buffer((8,), "float32")):
            for i in range(8):
                B[i] = B[i] + T.if_then_else(i >= 1, A[i - 1], T.float32(0)) * A[i]

    tvm.ir.assert_structural_equal(_run(Plain), Plain)


def test_without_conditions_a_loop_stays_whole() -> None:
    @I.ir_module
    class Whole:
        @T.prim_func
        def main(A: T.Buffer((8,), "float32"), B: T.Buffer((8,), "float32")):
            for i in T.serial(8, annotations={"kiln.peel_borders": True}):
                B[i] = A[i]

    (loop,) = _loops(_run(Whole), "i")
    assert int(loop.extent) == 8 and not loop.annotations


def test_sums_and_maxima_skip_what_is_neutral() -> None:
    """A maximum guarded by 0 keeps it: that is a number like any other."""

    @I.ir_module
    class Before:
        @T.prim_func
        def main(A: T.Buffer((9,), "float32"), B: T.Buffer((9,), "float32"), C: T.Buffer((9,), "float32")):
            for i in T.serial(9, annotations={"kiln.peel_borders": True}):
                B[i] = B[i] + T.if_then_else(i >= 1, A[i - 1], T.float32(0))
                C[i] = T.max(C[i], T.if_then_else(i >= 2, A[i - 2], T.float32("-inf")))

    parts = _loops(_run(Before), "i")
    assert [int(loop.extent) for loop in parts] == [2, 7]
    assert len(_conditions(parts[0])) == 2 and not _conditions(parts[1])

    @I.ir_module
    class Zero:
        @T.prim_func
        def main(A: T.Buffer((9,), "float32"), C: T.Buffer((9,), "float32")):
            for i in T.serial(9, annotations={"kiln.peel_borders": True}):
                C[i] = T.max(C[i], T.if_then_else(i >= 2, A[i - 2], T.float32(0)))

    (loop,) = _loops(_run(Zero), "i")
    assert int(loop.extent) == 9


@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (0, 2), (3, 1), (40, 40)])
@pytest.mark.parametrize("stride", [1, 2])
def test_numbers(padding: tuple[int, int], stride: int) -> None:
    """A sum of three neighbours over a row of any length, in tiles of 4."""
    size = te.var("size", "int64")
    before, after = padding
    count = (size + before + after - 3) // stride + 1
    data, weight = te.placeholder((size,), "float32", name="data"), te.placeholder((3,), "float32", name="weight")
    tap = te.reduce_axis((0, 3), name="tap")

    def element(i: tirx.Var) -> Any:
        at = i * stride + tap - before
        value = tirx.if_then_else(tirx.all(at >= 0, at < size), data[at], tirx.const(0, "float32"))
        return te.sum(value * weight[tap], axis=tap)

    schedule = Schedule(te.create_prim_func([data, weight, te.compute((count,), element, name="sum")]))
    block = schedule.get_sblock("sum")
    i, k = schedule.get_loops(block)
    tile, lane = schedule.split(i, [None, 4])
    schedule.reorder(tile, k, lane)
    schedule.annotate(tile, PEEL_KEY, True)
    schedule.decompose_reduction(block, k)
    with tvm.transform.PassContext(config=BUILD_CONFIG):
        target = tvm.target.Target(targets.host().tvm_json())
        built = tvm.compile(schedule.mod, target, tir_pipeline=tir_pipeline.register())
    w = np.array([1, 10, 100], "float32")
    for length in (1, 2, 3, 7, 16, 31):
        outputs = (length + before + after - 3) // stride + 1
        if outputs < 1:
            continue
        x = np.arange(1, length + 1, dtype="float32")
        result = tvm.runtime.tensor(np.full(outputs, np.nan, "float32"))
        built["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(w), result)
        padded = np.pad(x, padding)
        want = [padded[i * stride : i * stride + 3] @ w for i in range(outputs)]
        np.testing.assert_array_equal(result.numpy(), want)
