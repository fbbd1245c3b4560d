"""Every result in bfloat16 is a bfloat16, whatever it is fused with."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from kernel_cases import Kernels
from pass_graphs import const, data, graph
from tvm import relax, te

from onnxkiln.passes.round_bfloat16 import round_bfloat16

O = relax.op  # noqa: E741
BF16 = ml_dtypes.bfloat16
BITS = [0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7F800000, 0xFF800000, 0x80000000, 1, 0x3F808000, 0x3F818000,
        0x3F808001, 0x7F7FFFFF, 0x477FE000]  # fmt: skip
ODD = np.array(BITS, np.uint32).view(np.float32)


@pytest.mark.parametrize("size", [1, 13, 37])
def test_a_cast_there_and_back_rounds(size: int) -> None:
    kernels = Kernels(graph(lambda x: O.astype(O.astype(x, "bfloat16"), "float32"), ("n", size)))
    x = np.resize(np.concatenate([ODD, data(97).ravel()]), (7, size)).astype(np.float32)
    np.testing.assert_array_equal(kernels(x)[0], x.astype(BF16).astype(np.float32))
    assert size == 1 or all(report.vectorized for report in kernels.reports)


@pytest.mark.parametrize("operation", [O.add, O.subtract, O.multiply, O.divide, O.maximum], ids=lambda o: o.__name__)
def test_each_operation_of_a_chain_rounds(operation) -> None:
    def chain(x, y):
        halves = [O.astype(v, "bfloat16") for v in (x, y)]
        return O.astype(O.subtract(operation(*halves), halves[1]), "float32")

    x, y = data(5, 37), data(5, 37) * 60 + 100
    a, b = x.astype(BF16), y.astype(BF16)
    exact = {"maximum": np.maximum}.get(operation.__name__, getattr(np, operation.__name__))(a, b) - b
    np.testing.assert_array_equal(Kernels(graph(chain, ("n", 37), ("n", 37)))(x, y)[0], exact.astype(np.float32))


def test_elementary_functions_round() -> None:
    def tripled(x):
        return O.astype(O.multiply(O.exp(O.astype(x, "bfloat16")), const(BF16(3))), "float32")

    kernels = Kernels(graph(tripled, ("n", 19)))
    x = data(3, 19)
    exact = np.exp(x.astype(BF16).astype(np.float32)).astype(BF16) * BF16(3)
    np.testing.assert_array_equal(kernels(x)[0], exact.astype(np.float32))


def test_other_types_are_left_alone() -> None:
    a = te.placeholder((8,), name="a", dtype="float16")
    function = te.create_prim_func([a, te.compute((8,), lambda i: (a[i] + a[i]).astype("float32"))])
    after = round_bfloat16()(tvm.IRModule({"main": function}))["main"]
    assert tvm_ffi.structural_equal(after.body, function.body)


def test_a_cast_becomes_bits() -> None:
    a = te.placeholder((8,), name="a")
    function = te.create_prim_func([a, te.compute((8,), lambda i: a[i].astype("bfloat16").astype("float32"))])
    after = round_bfloat16()(tvm.IRModule({"main": function}))["main"].script()
    assert "reinterpret" in after and "Cast(\"bfloat16\"" not in after
