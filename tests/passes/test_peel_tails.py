"""Whole vectors run without a guard, the rest with one; other comparisons are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from relax_modules import Compiled, module_of
from tvm import relax, tirx
from tvm.script import tirx as T

from onnxkiln.passes.peel_tails import peel_tails


@T.prim_func(s_tir=True)
def guarded(x: T.handle, y: T.handle, n: T.int64) -> None:
    a = T.match_buffer(x, (n,), "float32")
    b = T.match_buffer(y, (n,), "float32")
    for i in T.serial((n + T.int64(15)) // T.int64(16), annotations={"kiln.tail": 16}):
        for j in T.vectorized(T.int64(16)):
            if i * T.int64(16) + j < n:
                b[i * T.int64(16) + j] = T.Select(
                    i * T.int64(16) + j < n - T.int64(3), a[i * T.int64(16) + j], T.float32(0)
                )


def loops_of(function: tirx.PrimFunc) -> list[tirx.For]:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(function.body, (tirx.For, found.append), order="pre")
    return found


def guards_in(loop: tirx.For) -> int:
    found: list[tirx.IfThenElse] = []
    tvm_ffi.structural_walk(loop.body, (tirx.IfThenElse, found.append))
    return len(found)


def test_the_main_loop_has_no_guard_and_the_tail_keeps_it() -> None:
    peeled = peel_tails()(tvm.IRModule({"main": guarded}))["main"]
    outer = [loop for loop in loops_of(peeled) if loop.kind == tirx.ForKind.SERIAL]
    assert [guards_in(loop) for loop in outer] == [0, 1]
    assert not any(loop.annotations for loop in outer)
    assert str(peeled).count("Select") == 2  # the operator's own comparison cuts nothing


@T.prim_func(s_tir=True)
def unrelated(x: T.handle, y: T.handle, n: T.int64) -> None:
    a = T.match_buffer(x, (n,), "float32")
    b = T.match_buffer(y, (n,), "float32")
    for i in T.serial((n + T.int64(15)) // T.int64(16), annotations={"kiln.tail": 16}):
        for j in T.vectorized(T.int64(16)):
            if i * T.int64(8) + j < n:
                b[i * T.int64(8) + j] = a[i * T.int64(8) + j]


def test_another_guard_is_left_alone() -> None:
    peeled = peel_tails()(tvm.IRModule({"main": unrelated}))["main"]
    outer = [loop for loop in loops_of(peeled) if loop.kind == tirx.ForKind.SERIAL]
    assert [guards_in(loop) for loop in outer] == [1]


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 33, 64])
def test_open_lengths(length: int, compiled_join: Compiled) -> None:
    x = np.arange(2 * length, dtype=np.float32).reshape(2, length)
    np.testing.assert_array_equal(compiled_join(x), np.concatenate([x, -x, x], axis=1))


@pytest.fixture(scope="module")
def compiled_join() -> Compiled:
    """Tensors joined along an open axis: each element is chosen by comparisons with open sizes."""
    joined = lambda x: relax.op.concat([x, relax.op.negative(x), x], axis=1)  # noqa: E731
    return Compiled(module_of(joined, ([2, "n"], "float32")))
