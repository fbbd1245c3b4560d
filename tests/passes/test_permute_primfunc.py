"""Permuting a kernel's buffers keeps what it computes, and is refused where that can't be seen."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from pass_graphs import data
from tvm import te, tirx
from tvm.s_tir.stmt import SBlock

from onnxkiln.passes.permute_primfunc import permute_primfunc

NHWC = [0, 2, 3, 1]


def primfunc(*tensors: te.Tensor) -> tirx.PrimFunc:
    return te.create_prim_func(list(tensors)).without_attr("global_symbol")


def call(function: tirx.PrimFunc, *arrays: np.ndarray) -> np.ndarray:
    """What the function makes of its last argument."""
    mod = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    tvm.compile(mod, target="llvm")["main"](*tensors)
    return tensors[-1].numpy()


def test_the_same_elements_in_another_order() -> None:
    x, bias = te.placeholder((2, 3, 4, 5), name="x"), te.placeholder((3,), name="bias")
    y = te.compute((2, 3, 5, 6), lambda n, c, h, w: x[n, 2 - c, tirx.min(h, 3), w // 2] * 2 + bias[c], name="y")
    function = primfunc(x, bias, y)
    permuted = permute_primfunc(function, [True, False, True], NHWC)
    values, offsets = data(2, 3, 4, 5), data(3)
    plain = call(function, values, offsets, np.zeros((2, 3, 5, 6), "float32"))
    moved = np.ascontiguousarray(values.transpose(NHWC))
    last = call(permuted, moved, offsets, np.zeros((2, 5, 6, 3), "float32"))
    np.testing.assert_array_equal(last, plain.transpose(NHWC))
    # The innermost loop runs along the result's last axis.
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(permuted.body, (tirx.For, loops.append), order="post")
    assert int(loops[0].extent) == 3
    # So do the block's own variables, from which schedules make loops anew.
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(permuted.body, (SBlock, blocks.append))
    assert [int(var.dom.extent) for var in blocks[0].iter_vars] == [2, 5, 6, 3]


def test_windows_too() -> None:
    """A sum over 2x3 elements, with a condition."""
    x = te.placeholder((2, 3, 4, 5), name="x")
    i, j = te.reduce_axis((0, 2), name="i"), te.reduce_axis((0, 3), name="j")

    def window(n, c, h, w):
        at = tirx.if_then_else(w + j < 5, x[n, c, h + i, w + j], 0.0)
        return te.sum(at, axis=[i, j])

    function = primfunc(x, te.compute((2, 3, 3, 4), window, name="y"))
    permuted = permute_primfunc(function, [True, True], NHWC)
    values = data(2, 3, 4, 5)
    plain = call(function, values, np.zeros((2, 3, 3, 4), "float32"))
    last = call(permuted, np.ascontiguousarray(values.transpose(NHWC)), np.zeros((2, 3, 4, 3), "float32"))
    np.testing.assert_allclose(last, plain.transpose(NHWC), rtol=1e-6)


def _outer_reduction(x: te.Tensor) -> te.Tensor:
    k = te.reduce_axis((0, 5), name="k")
    return te.compute((2, 3, 4), lambda n, c, h: te.sum(x[n, c, h, k], axis=k), name="y")


def _two_stages(x: te.Tensor) -> te.Tensor:
    first = te.compute(x.shape, lambda *i: x[i] + 1, name="first")
    return te.compute(x.shape, lambda *i: first[i] * first[i], name="y")


@pytest.mark.parametrize("build", [_outer_reduction, _two_stages])
def test_other_kernels_are_refused(build) -> None:
    x = te.placeholder((2, 3, 4, 5), name="x")
    assert permute_primfunc(primfunc(x, build(x)), [True, True], NHWC) is None


def test_a_wrong_number_of_marks_is_refused() -> None:
    x = te.placeholder((2, 3, 4, 5), name="x")
    y = te.compute(x.shape, lambda *i: x[i], name="y")
    assert permute_primfunc(primfunc(x, y), [True], NHWC) is None
    flat = te.compute((2,), lambda i: x[i, 0, 0, 0], name="z")
    assert permute_primfunc(primfunc(x, flat), [True, True], NHWC) is None
