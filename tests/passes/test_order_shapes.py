"""Sizes are stored in the order of their places, whatever order TVM found them in."""

from __future__ import annotations

import tvm
from tvm.script import tirx as T

from onnxkiln.passes.order_shapes import order_shapes


@T.prim_func(s_tir=True)
def mixed(H: T.Buffer((T.int64(3),), "int64")):
    T.func_attr({"tirx.is_host_func": True})
    H[T.int64(2)] = T.int64(4) * H[T.int64(0)]
    H[T.int64(1)] = T.int64(16) * H[T.int64(0)]


@T.prim_func(s_tir=True)
def ordered(H: T.Buffer((T.int64(3),), "int64")):
    T.func_attr({"tirx.is_host_func": True})
    H[T.int64(1)] = T.int64(16) * H[T.int64(0)]
    H[T.int64(2)] = T.int64(4) * H[T.int64(0)]


@T.prim_func(s_tir=True)
def kernel(H: T.Buffer((T.int64(3),), "int64")):
    H[T.int64(2)] = T.int64(4) * H[T.int64(0)]
    H[T.int64(1)] = H[T.int64(2)]


def test_stores_of_sizes_are_put_in_order() -> None:
    tvm.ir.assert_structural_equal(order_shapes(tvm.IRModule({"f": mixed}))["f"].body, ordered.body, map_free_vars=True)


def test_what_is_in_order_or_no_function_of_sizes_is_left_alone() -> None:
    for function in (ordered, kernel):
        tvm.ir.assert_structural_equal(order_shapes(tvm.IRModule({"f": function}))["f"], function)
