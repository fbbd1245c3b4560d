"""Zeros added around a convolution's input become its own padding; any other padding stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tvm
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_check import run_artifact
from pass_graphs import assert_same, const, data, emit, graph, operators
from tvm import relax

from onnxkiln.passes.fold_padding import fold_padding

O = relax.op  # noqa: E741
CONVOLUTIONS = {1: O.nn.conv1d, 2: O.nn.conv2d, 3: O.nn.conv3d}


def conv(x: relax.Expr, rank: int = 2, **attributes) -> relax.Expr:
    return CONVOLUTIONS[rank](x, const(data(4, 3, *[2] * rank)), **attributes)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_is_folded(rank: int) -> None:
    """Befores and afters that differ, on top of the convolution's own."""
    widths = [0, 0, 0, 0, *range(1, 2 * rank + 1)]

    def padded(x: relax.Expr) -> relax.Expr:
        return conv(emit(O.nn.pad(x, widths)), rank, padding=list(range(2 * rank)), strides=2)

    mod = graph(padded, (2, 3, *[5] * rank))
    after, count = fold_padding(mod)
    assert count == 1
    assert operators(relax.transform.DeadCodeElimination()(after)) == [f"nn.conv{rank}d"]
    assert_same(mod, after, [data(2, 3, *[5] * rank)])


def test_before_and_after() -> None:
    weight = const(data(4, 3, 2, 2))

    def padded(x: relax.Expr) -> relax.Expr:
        return O.nn.conv2d(emit(O.nn.pad(x, [0, 0, 0, 0, 1, 2, 3, 4])), weight, padding=(5, 6))

    after, _ = fold_padding(graph(padded, ("n", 3, "h", "w")))
    after = relax.transform.DeadCodeElimination()(after)
    wanted = graph(lambda x: O.nn.conv2d(x, weight, padding=(6, 9, 7, 10)), ("n", 3, "h", "w"))
    tvm.ir.assert_structural_equal(after, wanted)


def test_the_padded_value_stays_for_others() -> None:
    def both(x: relax.Expr) -> list[relax.Expr]:
        padded = emit(O.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1]))
        return [conv(padded), O.nn.relu(padded)]

    mod = graph(both, (1, 3, 4, 5))
    after, count = fold_padding(mod)
    assert count == 1 and operators(after) == ["nn.pad", "nn.conv2d", "nn.relu"]
    assert_same(mod, after, [data(1, 3, 4, 5)])


@pytest.mark.parametrize(
    "pad",
    [
        lambda x: O.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], "constant", 0.5),
        lambda x: O.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], "reflect"),
        lambda x: O.nn.pad(x, [1, 0, 0, 0, 1, 1, 1, 1]),
    ],
    ids=["of a number", "reflecting", "of the batch"],
)
def test_other_padding_stays(pad) -> None:
    mod = graph(lambda x: conv(emit(pad(x))), (1, 3, 4, 5))
    after, count = fold_padding(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_kernels_with_folded_padding() -> None:
    """Every kind of kernel, with more padding than the kernel is wide, and on one side only."""
    values, nodes, outputs = {}, [], []
    for index, (out, inner, group, stride, pads) in enumerate(
        [
            (24, 20, 1, 1, [1, 2, 0, 3]),
            (24, 20, 1, 2, [0, 5, 4, 0]),
            (20, 1, 20, 1, [0, 5, 4, 0]),
            (24, 10, 2, 1, [3, 0, 0, 1]),
        ]
    ):
        values |= {f"w{index}": data(out, inner, 3, 3), f"p{index}": np.array([0, 0, *pads[:2], 0, 0, *pads[2:]])}
        nodes.append(helper.make_node("Pad", ["x", f"p{index}"], [f"padded{index}"]))
        names = [f"padded{index}", f"w{index}"], [f"y{index}"]
        nodes.append(helper.make_node("Conv", *names, group=group, strides=[stride] * 2))
        outputs.append(helper.make_tensor_value_info(f"y{index}", onnx.TensorProto.FLOAT, ["n", out, None, None]))
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 20, "h", 7])
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    network = helper.make_graph(nodes, "padded", [image], outputs, constants)
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": data(2, 20, 5, 7)}
    for got, want in zip(run_artifact(model, feeds), ReferenceEvaluator(model).run(None, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
