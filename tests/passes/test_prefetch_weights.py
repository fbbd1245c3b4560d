"""Weights of a marked loop are fetched ahead; what doesn't move with the loop, and unmarked loops, are left alone."""

from __future__ import annotations

import tvm
from tvm.script import tirx as T

from onnxkiln.passes.prefetch_weights import prefetch_weights


@T.prim_func(s_tir=True)
def marked(x: T.handle, w: T.handle, y: T.handle) -> None:
    a = T.match_buffer(x, (64,), "float32")
    b = T.match_buffer(w, (1024,), "float32")
    c = T.match_buffer(y, (16,), "float32")
    for k in T.serial(64, annotations={"kiln.prefetch": 8}):
        c[T.Ramp(0, 1, 16)] = c[T.Ramp(0, 1, 16)] + T.Broadcast(a[k], 16) * b[T.Ramp(k * 16, 1, 16)]


@T.prim_func(s_tir=True)
def unmarked(w: T.handle, y: T.handle) -> None:
    b = T.match_buffer(w, (1024,), "float32")
    c = T.match_buffer(y, (16,), "float32")
    for k in range(64):
        c[T.Ramp(0, 1, 16)] = c[T.Ramp(0, 1, 16)] + b[T.Ramp(k * 16, 1, 16)]


def test_one_fetch_for_the_vector_that_moves_with_the_loop() -> None:
    text = str(prefetch_weights()(tvm.IRModule({"main": marked}))["main"])
    assert text.count("prefetch") == 1 and "(k + 8) * 16" in text.replace("T.int32", "")


def test_unmarked_loops_stay_as_they_are() -> None:
    assert "prefetch" not in str(prefetch_weights()(tvm.IRModule({"main": unmarked}))["main"])
