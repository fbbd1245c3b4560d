"""Pools of channels-last tensors: running results in registers, padding skipped, any size and number of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tvm
from kernel_cases import LEVELS, Kernels, runnable
from onnx import helper
from onnx_check import run_artifact
from pass_graphs import const, data, emit, graph
from tvm import relax, te
from tvm.s_tir import Schedule

from onnxkiln.schedules.blocks import split_loops
from onnxkiln.schedules.windows import is_window

O = relax.op  # noqa: E741
POOLS: list[tuple[str, dict[str, Any]]] = [
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 2, 1, 0], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}),
    ("MaxPool", {"kernel_shape": [8, 7], "pads": [3, 6, 2, 0], "strides": [2, 3]}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "dilations": [2, 1], "pads": [1, 0, 2, 1]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "strides": [2, 2], "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("LpPool", {"kernel_shape": [2, 2], "p": 2}),
]


def _model(channels: int, dims: list[Any]) -> onnx.ModelProto:
    """Each pool behind a convolution, which makes it channels-last."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"])]
    outputs = []
    for index, (op, attributes) in enumerate(POOLS):
        nodes.append(helper.make_node(op, ["c"], [f"y{index}"], **attributes))
        outputs.append(helper.make_tensor_value_info(f"y{index}", 1, [None] * 4))
    weight = onnx.numpy_helper.from_array(data(channels, 3, 1, 1), "w")
    pools = helper.make_graph(nodes, "pools", [helper.make_tensor_value_info("x", 1, dims)], outputs, [weight])
    return helper.make_model(pools, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("channels", "open_sizes"), [(32, True), (17, True), (1, True), (24, False), (13, False)], ids=str
)
def test_numbers(channels: int, open_sizes: bool) -> None:
    shape = (2, 3, 11, 7)
    model = _model(channels, ["n", 3, "h", "w"] if open_sizes else list(shape))
    feeds = {"x": data(*shape)}
    wanted = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    for got, want, (op, attributes) in zip(run_artifact(model, feeds), wanted, POOLS, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=f"{op} {attributes}")


@pytest.mark.parametrize("target", LEVELS)
def test_every_pool_is_in_vectors(target: str) -> None:
    def pools(x: relax.Expr) -> list[relax.Expr]:
        y = emit(O.nn.conv2d(x, const(data(20, 3, 1, 1))))
        return [O.nn.max_pool2d(y, (3, 3), (2, 2), (1, 1)), O.nn.avg_pool2d(y, (3, 3), (1, 1), (1, 1))]

    if not runnable(target):
        pytest.skip("this machine can't run it")
    kernels = Kernels(graph(pools, ("n", 3, "h", "w")), target)
    assert all(report.vectorized for report in kernels.reports if "pool" in report.name)
    x = data(1, 3, 9, 6)
    assert [y.shape for y in kernels(x)] == [(1, 20, 5, 3), (1, 20, 9, 6)]


def _is_window(build: Any) -> bool:
    x = te.placeholder((4, 9, 9, 32), name="x")
    schedule = Schedule(tvm.IRModule({"main": te.create_prim_func([x, build(x)])}))
    block = schedule.get_sblock("y")
    return is_window(schedule, block, *split_loops(schedule, block))


def _sum(x: te.Tensor, size: int, last: bool = False) -> te.Tensor:
    k = te.reduce_axis((0, size), name="k")

    def element(n: Any, h: Any, w: Any, c: Any) -> Any:
        at = c + k if last else h + k
        value = x[n, h, w, at] if last else x[n, at, w, c]
        return te.sum(tvm.tirx.if_then_else(at < (32 if last else 9), value, 0.0), axis=k)

    return te.compute((4, 3, 9, 32), element, name="y")


def test_what_is_a_window() -> None:
    assert _is_window(lambda x: _sum(x, 3))
    assert not _is_window(lambda x: _sum(x, 3, last=True))  # a condition on the lanes
    assert not _is_window(lambda x: _sum(x, 1000))


@pytest.mark.parametrize("function", [relax.op.nn.softmax, relax.op.nn.log_softmax], ids=["softmax", "log_softmax"])
def test_a_softmax_over_an_outer_axis_is_no_window(function: Any) -> None:
    """Its sums are read by all elements of a row, which a window's results are not."""
    x = data(2, 3, 16)
    (found,) = Kernels(graph(lambda p: function(p, 1), (2, 3, 16)))(x)
    exact = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(found, exact if "log" not in function.__name__ else np.log(exact), rtol=1e-5, atol=1e-6)
