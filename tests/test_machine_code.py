"""Vector instructions in the hottest functions of whole models, read from the machine code that is shipped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from kernel_cases import Kernels, runnable
from onnx import TensorProto
from onnx import helper as oh

from onnxkiln.frontend import import_model

ZOO = Path.home() / ".cache" / "onnxkiln" / "zoo"
RNG = np.random.default_rng(11)
V3, V4 = "cpu:x86-64-v3", "cpu:x86-64-v4"
# Multiplying and adding whole registers; "ps" is packed, "ss" would be one element.
PACKED = {V3: r"vf(n?m(add|sub))\d+ps\s.*%ymm", V4: r"vf(n?m(add|sub))\d+ps\s.*%zmm"}


def assembly(kernels: Kernels) -> dict[str, str]:
    """The text of each function, by its symbol."""
    text = "\n".join(module.inspect_source("asm") for module in kernels.executable.mod.imports if module.kind == "llvm")
    functions: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if start := re.match(r"\s*\.type\s+(\S+),@function", line):
            current = functions.setdefault(start[1], [])
        current.append(line)
    return {name: "\n".join(lines) for name, lines in functions.items()}


def instructions_of(functions: dict[str, str], kernel: str) -> str:
    """A kernel and the bodies of its parallel loops, which are functions of their own."""
    waiting = [name for name in (f"__tvm_ffi_{kernel}", f"{kernel}_compute_") if name in functions]
    assert waiting, f"{kernel} is not in {sorted(functions)}"
    seen: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name] = functions[name]
            waiting += re.findall(r"\.L__tvm_parallel_lambda[.\d]*", seen[name])
    return "\n".join(seen.values())


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return oh.make_tensor(name, TensorProto.FLOAT, shape, RNG.normal(size=shape).astype("float32").tobytes(), raw=True)


def encoder() -> onnx.ModelProto:
    """One feed-forward block with attention's two products: everything hot is a matrix product."""
    nodes = [
        oh.make_node("MatMul", ["x", "w0"], ["q"]),
        oh.make_node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        oh.make_node("MatMul", ["q", "k"], ["scores"]),
        oh.make_node("Softmax", ["scores"], ["shares"]),
        oh.make_node("MatMul", ["shares", "q"], ["mixed"]),
        oh.make_node("MatMul", ["mixed", "w1"], ["wide"]),
        oh.make_node("Relu", ["wide"], ["hidden"]),
        oh.make_node("MatMul", ["hidden", "w2"], ["y"]),
    ]
    return _model(nodes, ["n", "s", 48], [weight("w0", 48, 48), weight("w1", 48, 100), weight("w2", 100, 48)])


def network() -> onnx.ModelProto:
    """A dense, a depthwise and a pointwise convolution."""
    nodes = [
        oh.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        oh.make_node("Relu", ["a"], ["b"]),
        oh.make_node("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1], group=32),
        oh.make_node("Conv", ["c", "w2"], ["d"]),
        oh.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    weights = [weight("w0", 32, 3, 3, 3), weight("w1", 32, 1, 3, 3), weight("w2", 40, 32, 1, 1)]
    return _model(nodes, ["n", 3, 33, 47], weights)


def _model(nodes: list, shape: list, weights: list) -> onnx.ModelProto:
    x = oh.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = oh.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = oh.make_graph(nodes, "g", [x], [y], weights)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("target", [V3, V4])
@pytest.mark.parametrize(
    ("build", "kernels_of_model"),
    [(encoder, {"matmul": 3, "attention": 1}), (network, {"conv2d": 2, "depthwise_conv2d": 1})],
    ids=["encoder", "network"],
)
def test_kernels_are_made_of_packed_instructions(build, kernels_of_model, target: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(build(), path)
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    kernels = Kernels(import_model(path).module, target)
    assert all(report.vectorized for report in kernels.reports)
    functions = assembly(kernels)
    for template, count in kernels_of_model.items():
        hot = kernels.of(template)
        assert sum(report.calls for report in hot) == count
        for report in hot:
            body = instructions_of(functions, report.name)
            packed = len(re.findall(PACKED[target], body))
            scalar = len(re.findall(r"vf(n?m(add|sub))\d+ss\s", body))
            assert packed >= 4 and packed > scalar, f"{report.name}: {packed} packed, {scalar} scalar"


@pytest.mark.parametrize("name", ["silero_vad", "magika"])
def test_hottest_functions_of_real_models(name: str) -> None:
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there: make zoo downloads it")
    if not runnable(V3):
        pytest.skip(f"this machine cannot run {V3}")
    kernels = Kernels(import_model(path).module, V3)
    hot = [report for report in kernels.reports if report.template in ("conv2d", "matmul", "batch_matmul")]
    assert hot
    functions = assembly(kernels)
    for report in hot:
        assert re.search(PACKED[V3], instructions_of(functions, report.name)), report.name
