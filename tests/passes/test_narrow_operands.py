"""Operands of products in float16, sums in float32."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from pass_graphs import const, data, graph
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.constants import op_name
from onnxkiln.passes.narrow_operands import narrow_operands

O = relax.op  # noqa: E741
PLAIN = targets.parse("cuda")[0]
HALF = targets.with_precision([PLAIN], "fp16")[0]


def calls(mod: tvm.IRModule) -> list[str]:
    return [op_name(binding.value) for block in mod["main"].body.blocks for binding in block.bindings]


def test_operands_are_rounded_once_and_sums_stay_wide() -> None:
    def both(x: relax.Expr) -> list[relax.Expr]:
        return [O.matmul(x, const(data(7, 9))), O.matmul(x, const(data(7, 3)))]

    mod, count = narrow_operands(graph(both, (5, 7)), HALF)
    assert count == 2
    assert calls(mod).count("relax.astype") == 1  # of x; the constants are rounded here and now
    assert calls(mod).count("relax.matmul") == 2
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            if op_name(binding.value) == "relax.matmul":
                assert [str(arg.ty.dtype) for arg in binding.value.args] == ["float16", "float16"]
                assert str(binding.var.ty.dtype) == "float32"


def test_convolutions_keep_their_attributes() -> None:
    def convolve(x: relax.Expr) -> relax.Expr:
        return O.nn.conv2d(x, const(data(4, 3, 3, 3)), strides=[2, 1], padding=[1, 0, 1, 0], dilation=[1, 2])

    mod, count = narrow_operands(graph(convolve, (1, 3, 9, 9)), HALF)
    (call,) = (b.value for k in mod["main"].body.blocks for b in k.bindings if op_name(b.value) == "relax.nn.conv2d")
    assert count == 1 and str(call.attrs.out_dtype) == "float32"
    assert [list(map(int, value)) for value in (call.attrs.strides, call.attrs.padding, call.attrs.dilation)] == [
        [2, 1], [1, 0, 1, 0], [1, 2]
    ]  # fmt: skip


@pytest.mark.parametrize("target", [PLAIN, targets.with_precision([PLAIN], "tf32")[0]])
def test_fp32_is_left_alone_without_fp16(target: targets.Target) -> None:
    before = graph(lambda x: O.matmul(x, const(data(7, 9))), (5, 7))
    mod, count = narrow_operands(before, target)
    assert count == 0 and tvm_ffi.structural_equal(mod, before)


def test_a_constant_past_the_largest_half_stays() -> None:
    weight = data(7, 9)
    weight[3, 3] = 70000
    before = graph(lambda x: O.matmul(x, const(weight)), (5, 7))
    assert narrow_operands(before, HALF)[1] == 0
    weight[3, 3] = np.inf
    assert narrow_operands(graph(lambda x: O.matmul(x, const(weight)), (5, 7)), HALF)[1] == 1
