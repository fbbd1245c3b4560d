"""The next panel of weights is fetched in shares, each line once; unmarked loops are left alone."""

from __future__ import annotations

import itertools
import operator
import re
import types

import pytest
import tvm
from tvm.script import tirx as T

from onnxkiln.passes.prefetch_weights import prefetch_weights


@T.prim_func(s_tir=True)
def marked(x: T.handle, w: T.handle, y: T.handle) -> None:
    """Three panels of 2 blocks by 32 channels, each read in four passes."""
    a = T.match_buffer(x, (32,), "float32")
    b = T.match_buffer(w, (3072,), "float32")
    c = T.match_buffer(y, (384,), "float32")
    for panel, row in T.grid(3, 4):
        for k in T.serial(32, annotations={"kiln.prefetch": 64}):
            c[T.Ramp(panel * 128 + row * 32, 1, 16)] = T.Broadcast(a[k], 16) * b[T.Ramp(panel * 1024 + k * 16, 1, 16)]
            c[T.Ramp(panel * 128 + row * 32 + 16, 1, 16)] = (
                T.Broadcast(a[k], 16) * b[T.Ramp(panel * 1024 + 512 + k * 16, 1, 16)]
            )


@T.prim_func(s_tir=True)
def open_rows(x: T.handle, w: T.handle, y: T.handle, passes: T.int64) -> None:
    """As ``marked``, but read in any number of passes."""
    a = T.match_buffer(x, (T.int64(32),), "float32")
    b = T.match_buffer(w, (T.int64(3072),), "float32")
    c = T.match_buffer(y, (passes * 32,), "float32")
    for panel in range(T.int64(3)):
        for row in range(passes):
            for k in T.serial(T.int64(32), annotations={"kiln.prefetch": 64}):
                c[T.Ramp(row * 32, 1, 16)] = T.Broadcast(a[k], 16) * b[T.Ramp(panel * 1024 + k * 16, 1, 16)]
                c[T.Ramp(row * 32 + 16, 1, 16)] = T.Broadcast(a[k], 16) * b[T.Ramp(panel * 1024 + 512 + k * 16, 1, 16)]


@T.prim_func(s_tir=True)
def unmarked(w: T.handle, y: T.handle) -> None:
    b = T.match_buffer(w, (1024,), "float32")
    c = T.match_buffer(y, (16,), "float32")
    for k in range(64):
        c[T.Ramp(0, 1, 16)] = c[T.Ramp(0, 1, 16)] + b[T.Ramp(k * 16, 1, 16)]


operator_names = types.SimpleNamespace(Mul=operator.mul, Add=operator.add)


def _fetches(text: str) -> list[tuple[str, str]]:
    """(condition, index) of every fetch."""
    lines = text.splitlines()
    found = []
    for before, line in itertools.pairwise(lines):
        if match := re.search(r"address_of\(\w+\[(.+)\]\), 0, 2, 1\)", line):
            condition = re.search(r"if (.+):", before)
            found.append((condition[1] if condition else "True", match[1]))
    return found


def test_each_line_of_the_next_panel_is_fetched_once() -> None:
    text = str(prefetch_weights()(tvm.IRModule({"main": marked}))["main"])
    [(condition, index)] = _fetches(text)
    for panel in range(3):
        lines = []
        for row in range(4):
            for k in range(32):
                names = {"panel": panel, "row": row, "k": k}
                if eval(condition, {"T": operator_names}, names):
                    lines.append(eval(index, {"T": operator_names}, names))
        assert lines == [(panel + 1) * 1024 + 16 * line for line in range(64)]


@pytest.mark.parametrize("passes", [1, 2, 3, 7])
def test_so_it_is_where_the_number_of_passes_is_open(passes: int) -> None:
    fetches = _fetches(str(prefetch_weights()(tvm.IRModule({"main": open_rows}))["main"]))
    assert len(fetches) == 2
    integers = types.SimpleNamespace(Mul=operator.mul, Add=operator.add, int64=int)
    for panel in range(3):
        lines = []
        for row, k, (condition, index) in itertools.product(range(passes), range(32), fetches):
            names = {"panel": panel, "row": row, "k": k, "passes": passes}
            if eval(condition, {"T": integers}, names):
                lines.append(eval(index, {"T": integers}, names))
        assert sorted(lines) == [(panel + 1) * 1024 + 16 * line for line in range(64)]


def test_unmarked_loops_stay_as_they_are() -> None:
    assert "prefetch" not in str(prefetch_weights()(tvm.IRModule({"main": unmarked}))["main"])
