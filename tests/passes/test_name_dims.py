"""Composite dims of a kernel's arguments become variables, and its loops are expressed in them."""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from pass_graphs import data
from tvm import te, tirx

from onnxkiln.passes.name_dims import name_dims, name_dims_of


def strided(tile: int = 1, offset: int = -1, stride: int = 2) -> tirx.PrimFunc:
    """Every ``stride``-th element of [w], in whole tiles, and from there to the rows of the result."""
    w = tirx.Var("w", "int64")
    columns = (w + offset) // stride + 1
    x = te.placeholder((w,), name="x")
    whole = tirx.floordiv(columns + tile - 1, tile) * tile
    wide = te.compute((whole,), lambda i: x[tirx.min(i, columns - 1) * stride] * 2, name="wide")
    y = te.compute((columns,), lambda i: wide[i] + 1, name="y")
    return te.create_prim_func([x, y]).without_attr("global_symbol")


def extents(function: tirx.PrimFunc) -> list[str]:
    found: list[str] = []
    tvm_ffi.structural_walk(function.body, (tirx.For, lambda loop: found.append(str(loop.extent))), order="pre")
    return found


def run(function: tirx.PrimFunc, x: np.ndarray, size: int) -> np.ndarray:
    mod = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    y = tvm.runtime.tensor(np.zeros(size, "float32"))
    tvm.compile(mod, target="llvm")["main"](tvm.runtime.tensor(x), y)
    return y.numpy()


def symbols(function: tirx.PrimFunc) -> set[str]:
    return {var.name for extent in _dims(function) for var in tirx.analysis.undefined_vars(extent)}


def _dims(function: tirx.PrimFunc) -> list:
    found: list = []
    tvm_ffi.structural_walk(function.body, (tirx.For, lambda loop: found.append(loop.extent)), order="pre")
    return found


def test_loops_run_over_the_named_dim() -> None:
    for function in (strided(), strided(tile=4), strided(tile=3, offset=2), strided(tile=8, offset=-4, stride=1)):
        assert symbols(function) == {"w"}
        named = name_dims_of(function)
        assert symbols(named) == {"r0"}, extents(named)
        assert [str(dim) for dim in named.params[1].shape] == ["r0"]


def test_tiles_are_written_as_rounding_up() -> None:
    for function, want in [
        (strided(tile=4), "r0 + 3 // 4 * 4"),
        (strided(tile=8, offset=-4, stride=1), "r0 + 7 // 8 * 8"),
    ]:
        tiles = extents(name_dims_of(function))[0]
        assert tiles.replace("T.int64(", "").replace(")", "").replace("(", "") == want


def test_values_stay() -> None:
    for options in ({}, {"tile": 4}, {"tile": 8, "offset": -4, "stride": 1}):
        function = strided(**options)
        for w in (5, 6, 13):
            size = (w + options.get("offset", -1)) // options.get("stride", 2) + 1
            x = data(w)
            np.testing.assert_array_equal(run(name_dims_of(function), x, size), run(function, x, size))


def test_plain_dims_are_left_alone() -> None:
    n = tirx.Var("n", "int64")
    x = te.placeholder((n, 4), name="x")
    function = te.create_prim_func([x, te.compute((n, 4), lambda i, j: x[i, j] + 1, name="y")])
    assert name_dims_of(function).same_as(function)
    assert name_dims(tvm.IRModule({"f": function}))[1] == 0


def test_equal_dims_share_a_name() -> None:
    w = tirx.Var("w", "int64")
    x = te.placeholder((w // 2,), name="x")
    z = te.placeholder((w // 2, w // 3), name="z")
    function = te.create_prim_func([x, z, te.compute((w // 2, w // 3), lambda i, j: x[i] * z[i, j], name="y")])
    after, count = name_dims(tvm.IRModule({"f": function}))
    assert count == 2
    shapes = [[str(dim) for dim in param.shape] for param in after["f"].params]
    assert shapes == [["r0"], ["r0", "r1"], ["r0", "r1"]]
