"""Quantized graphs compute with the integers: which operators, what is left alone, and the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pass_graphs import data, graph
from quantized_graphs import RNG, Graph, byte, quanta
from tvm import relax

from onnxkiln.artifacts.manifest import from_bytes
from onnxkiln.frontend import import_model
from onnxkiln.passes.bindings import bindings_of
from onnxkiln.passes.constants import dtype_of, op_name
from onnxkiln.passes.integer_arithmetic import integer_arithmetic


def integers(path: Path) -> tuple[list[tuple[str, str]], int]:
    """(operator, output type) of what the pass leaves, and its count."""
    mod, count = integer_arithmetic(import_model(path).module)
    found = [(op_name(b.value), b.var) for b in bindings_of(mod["main"]) if op_name(b.value)]
    return [(name, dtype_of(var)) for name, var in found if isinstance(var.ty, relax.TensorType)], count


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_convolutions(tmp_path: Path, kind: str) -> None:
    """Zero points at the ends and inside, padding, strides, depthwise, a residual sum, a pool, a dense layer behind."""
    info = np.iinfo(kind)
    graph = Graph()
    x = graph.input(kind, "n", 5, 9, 9)
    scales = RNG.uniform(1e-3, 1e-2, 18).astype(np.float32)
    weight = graph.real(graph.const(byte(-128, 127, 18, 5, 3, 3)), scales, np.zeros(18, np.int8), 0)
    # Biases are sums of products, with the products' scales.
    sums = graph.const(RNG.integers(-999, 999, 18).astype(np.int32))
    bias = graph.real(sums, scales * 0.02, np.zeros(18, np.int32), 0)
    source = graph.real(x, 0.02, np.array(info.max, kind))
    first = graph.node("Conv", source, weight, bias, pads=[1] * 4, strides=[2] * 2)
    hidden = graph.bytes(graph.node("Relu", first), 0.05, np.array(info.min, kind))
    taps = graph.real(graph.const(byte(-128, 127, 18, 1, 3, 3)), 0.004, np.array(0, np.int8))
    second = graph.node("Conv", graph.real(hidden, 0.05, np.array(info.min, kind)), taps, pads=[1] * 4, group=18)
    joined = graph.node("Add", graph.real(graph.bytes(second, 0.1, np.array(3, kind)), 0.1, np.array(3, kind)),
                        graph.real(hidden, 0.05, np.array(info.min, kind)))  # fmt: skip
    summed = graph.bytes(joined, 0.12, np.array(7, kind))
    pooled = graph.node("MaxPool", graph.real(summed, 0.12, np.array(7, kind)), kernel_shape=[3, 3], pads=[1] * 4)
    again = graph.bytes(pooled, 0.12, np.array(7, kind))
    flat = graph.node("Flatten", graph.real(again, 0.12, np.array(7, kind)))
    matrix = graph.real(graph.const(byte(-128, 127, 11, 18 * 25)), 0.01, np.array(0, np.int8))
    dense = graph.bytes(graph.node("Gemm", flat, matrix, transB=1), 0.9, np.array(-4 if kind == "int8" else 90, kind))
    path = graph.save(tmp_path / "model.onnx", dense, again)
    found, count = integers(path)
    assert [dtype for name, dtype in found if name.endswith(("conv2d", "matmul"))] == ["int32"] * 3
    assert ("relax.nn.max_pool2d", kind) in found and count >= 5
    away, templates = quanta(tmp_path, path, byte(info.min, info.max, 2, 5, 9, 9))
    assert away <= 1 and {"int8_conv2d", "depthwise_conv2d", "int8_matmul"} <= templates
    assert not {"conv2d", "matmul"} & templates


@pytest.mark.parametrize("batch", [1, "n"])
def test_requantization_is_part_of_the_kernel(tmp_path: Path, batch: int | str) -> None:
    """Rounded in vectors, where the sums are: a kernel a layer, and the transposes at both ends."""
    graph = Graph()
    value, zero = graph.input("uint8", batch, 16, 6, 5), np.array(0, np.uint8)
    for out in (32, 16):
        channels = 16 if out == 32 else 32
        weight = graph.real(graph.const(byte(-128, 127, out, channels, 3, 3)), 0.004, np.array(0, np.int8))
        layer = graph.node("Conv", graph.real(value, 0.02, zero), weight, pads=[1] * 4)
        value = graph.bytes(graph.node("Relu", layer), 0.3, zero)
    path = graph.save(tmp_path / "model.onnx", value)
    assert quanta(tmp_path, path, byte(0, 255, 1, 16, 6, 5))[0] <= 1
    kernels = from_bytes((tmp_path / "artifact" / "manifest.json").read_bytes()).kernels
    assert sum(kernel.template == "int8_conv2d" for kernel in kernels) == 2
    assert len(kernels) <= 4 and all(kernel.vectorized for kernel in kernels), kernels


def test_weights_with_a_zero_point(tmp_path: Path) -> None:
    """Unsigned weights around 128 become signed; those that fit in no signed byte stay in floating point."""
    for low, integer in ((1, True), (0, True), (-1, False)):
        graph = Graph()
        x = graph.real(graph.input("uint8", "n", 12), 0.1, np.array(200, np.uint8))
        values = byte(0, 255, 12, 7) if low < 1 else np.clip(byte(0, 255, 12, 7), 1, 255)
        zero = np.array(128 if low >= 0 else 100, np.uint8)
        product = graph.node("MatMul", x, graph.real(graph.const(values), 0.01, zero))
        path = graph.save(tmp_path / "model.onnx", graph.bytes(product, 0.5, np.array(127, np.uint8)))
        away, templates = quanta(tmp_path, path, byte(0, 255, 3, 12))
        assert away <= 1 and ("int8_matmul" in templates) == integer


def test_operator_forms(tmp_path: Path) -> None:
    """QLinearConv, QLinearMatMul, MatMulInteger with a zero point that only run time knows."""
    graph = Graph()
    x, y, z = graph.input("int8", 1, 6, 5, 5), graph.input("uint8", 4, 9), graph.input("uint8", 1)

    def scalar(value: float, kind: str = "float32") -> str:
        return graph.const(np.array(value, kind))

    weight, matrix = graph.const(byte(-128, 127, 8, 6, 3, 3)), graph.const(byte(-128, 127, 9, 5))
    conv = graph.node("QLinearConv", x, scalar(0.1), scalar(-128, "int8"), weight, scalar(0.01), scalar(0, "int8"),
                      scalar(2.0), scalar(11, "int8"), pads=[1, 1, 0, 0])  # fmt: skip
    product = graph.node("QLinearMatMul", y, scalar(0.1), scalar(255, "uint8"), matrix, scalar(0.01), scalar(0, "int8"),
                         scalar(0.7), scalar(128, "uint8"))  # fmt: skip
    path = graph.save(tmp_path / "m.onnx", conv, product, graph.node("MatMulInteger", y, matrix, z))
    inputs = byte(-128, 127, 1, 6, 5, 5), byte(0, 255, 4, 9), np.array([17], np.uint8)
    away, templates = quanta(tmp_path, path, *inputs)
    assert away <= 1 and {"int8_conv2d", "int8_matmul"} <= templates and not {"conv2d", "matmul"} & templates


def test_sums_that_might_overflow_stay_in_floating_point(tmp_path: Path) -> None:
    graph = Graph()
    depth = 2**31 // (255 * 128) + 1
    x = graph.real(graph.input("uint8", 1, depth), 0.1, np.array(0, np.uint8))
    weight = graph.real(graph.const(np.full((depth, 1), -128, np.int8)), 0.01, np.array(0, np.int8))
    found, count = integers(graph.save(tmp_path / "model.onnx", graph.node("MatMul", x, weight)))
    assert count == 0 and ("relax.matmul", "float32") in found


def test_other_graphs_are_left_alone() -> None:
    weight = relax.const(data(4, 5))
    mod = graph(lambda x: relax.op.nn.relu(relax.op.matmul(x, weight)), (3, 4))
    after, count = integer_arithmetic(mod)
    assert count == 0
    before, behind = ([op_name(b.value) for b in bindings_of(m["main"])] for m in (mod, after))
    assert before == behind
