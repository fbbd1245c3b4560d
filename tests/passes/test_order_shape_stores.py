"""The statements that compute sizes come in one order, and other functions are left alone."""

import tvm
from tvm.script import tirx as T

from onnxkiln.passes.order_shape_stores import order_shape_stores, ordered


@T.prim_func(s_tir=True)
def mixed(heap: T.Buffer((4,), "int64")):
    heap[T.int64(3)] = heap[T.int64(0)] * T.int64(2)
    heap[T.int64(1)] = heap[T.int64(0)] + T.int64(1)
    heap[T.int64(2)] = heap[T.int64(0)] * heap[T.int64(0)]


@T.prim_func(s_tir=True)
def sorted_(heap: T.Buffer((4,), "int64")):
    heap[T.int64(1)] = heap[T.int64(0)] + T.int64(1)
    heap[T.int64(2)] = heap[T.int64(0)] * heap[T.int64(0)]
    heap[T.int64(3)] = heap[T.int64(0)] * T.int64(2)


@T.prim_func(s_tir=True)
def looped(heap: T.Buffer((4,), "int64")):
    for i in range(3):
        heap[i] = T.int64(0)
    heap[T.int64(0)] = T.int64(1)


def test_stores_are_sorted_by_place():
    wanted = sorted_.with_attr("global_symbol", "mixed")
    tvm.ir.assert_structural_equal(ordered(mixed), wanted)
    assert ordered(sorted_).same_as(sorted_) or ordered(sorted_).script() == sorted_.script()


def test_other_functions_stay():
    mod = tvm.IRModule({"shape_func1": mixed, "kernel": mixed, "shape_func": looped})
    after = order_shape_stores()(mod)
    tvm.ir.assert_structural_equal(after["shape_func1"], sorted_.with_attr("global_symbol", "mixed"))
    tvm.ir.assert_structural_equal(after["kernel"], mixed)
    tvm.ir.assert_structural_equal(after["shape_func"], looped)
