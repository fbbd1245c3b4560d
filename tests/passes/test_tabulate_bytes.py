"""Functions of one byte become tables: which, what is left alone, and the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from quantized_graphs import Graph, quanta

import onnxkiln
from onnxkiln.frontend import import_model
from onnxkiln.passes.bindings import bindings_of
from onnxkiln.passes.constants import op_name
from onnxkiln.passes.permute_tables import MARK, permute_tables
from onnxkiln.passes.tabulate_bytes import mark_lookups, tabulate_bytes
from onnxkiln.targets import parse

RNG = np.random.default_rng(6)
SHAPES = [(1, 1, 1, 1), (2, 5, 3, 7), (1, 16, 6, 5), (3, 33, 1, 4), (17,), (0, 4, 3, 3)]


def kernels_of(path: Path) -> tuple[list[str], int]:
    """Names of the kernels that ``main`` calls once the pass and what is dead are through, and the pass's count."""
    from tvm.relax.transform import DeadCodeElimination

    mod, count = tabulate_bytes(import_model(path).module)
    values = [binding.value for binding in bindings_of(DeadCodeElimination()(mod)["main"])]
    return [value.args[0].name_hint for value in values if op_name(value) == "relax.call_tir"], count


def swish(graph: Graph, value: str, kind: str, function: str = "HardSigmoid") -> str:
    """Quantized behind each step, each time in another way."""
    info = np.iinfo(kind)
    x = graph.real(value, 0.05, np.array(info.min + 100, kind))
    gate = graph.bytes(graph.node(function, x), 1 / 255, np.array(info.min, kind))
    product = graph.node("Mul", x, graph.real(gate, 1 / 255, np.array(info.min, kind)))
    return graph.bytes(product, 0.04, np.array(info.min + 9, kind))


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("function", ["HardSigmoid", "Sigmoid", "Tanh", "Relu", "Exp", "Abs", "LeakyRelu"])
def test_every_byte(tmp_path: Path, kind: str, function: str) -> None:
    """All 256 of them, steps and all, in one lookup."""
    graph = Graph()
    path = graph.save(tmp_path / "model.onnx", swish(graph, graph.input(kind, "n", "m"), kind, function))
    names, count = kernels_of(path)
    assert len(names) == 1 and names[0].startswith("lookup") and count == 2
    values = np.arange(256, dtype=np.uint8).view(kind).reshape(2, 128)
    assert quanta(tmp_path, path, values)[0] <= 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    graph = Graph()
    path = graph.save(tmp_path / "model.onnx", swish(graph, graph.input("int8", *shape), "int8"))
    x = RNG.integers(-128, 128, shape).astype(np.int8)
    want = onnxruntime.InferenceSession(str(path)).run(None, {"x0": x})[0] if x.size else x
    with onnxkiln.load(onnxkiln.compile(path, tmp_path / "artifact")) as session:
        (got,) = session.run(None, {"x0": x})
    assert got.shape == shape and got.dtype == np.int8
    assert not x.size or np.abs(got.astype(int) - want.astype(int)).max() <= 1


@pytest.mark.parametrize("target", ["cpu", "cpu:x86-64-v3", "cpu:x86-64-v1"])
def test_part_of_a_convolution(tmp_path: Path, target: str) -> None:
    """The lookup is fused behind the sums, and in registers where there is AVX-512."""
    graph, zero = Graph(), np.array(-3, np.int8)
    x = graph.real(graph.input("int8", 1, 8, 7, "w"), 0.02, zero)
    taps = RNG.integers(-128, 128, (24, 8, 3, 3)).astype(np.int8)
    weight = graph.real(graph.const(taps), 0.004, np.array(0, np.int8))
    sums = graph.bytes(graph.node("Conv", x, weight, pads=[1] * 4), 0.05, np.array(-28, np.int8))
    path = graph.save(tmp_path / "model.onnx", swish(graph, sums, "int8"))
    array = RNG.integers(-128, 128, (1, 8, 7, 11)).astype(np.int8)
    want = onnxruntime.InferenceSession(str(path)).run(None, {"x0": array})[0]
    artifact = onnxkiln.compile(path, tmp_path / "artifact", target=target)
    with onnxkiln.load(artifact) as session:
        (got,) = session.run(None, {"x0": array})
        names = [kernel.name for kernel in session.profile({"x0": array}, runs=1)]
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 2  # a step in the sums may be two behind the table
    assert (got == want).mean() > 0.99
    assert any("int8_conv2d" in name and "lookup" in name for name in names), names


def test_the_same_bytes_again_are_no_lookup(tmp_path: Path) -> None:
    """Negated twice, with a quantization between."""
    graph, zero = Graph(), np.array(0, np.int8)
    once = graph.bytes(graph.node("Neg", graph.real(graph.input("int8", 2, 3), 0.1, zero)), 0.1, zero)
    once = graph.bytes(graph.node("Abs", graph.real(once, 0.1, zero)), 0.1, zero)
    twice = graph.bytes(graph.node("Relu", graph.real(once, 0.1, zero)), 0.1, zero)
    names, count = kernels_of(graph.save(tmp_path / "model.onnx", twice))
    assert count == 3 and len(names) == 1
    graph = Graph()
    same = graph.bytes(graph.real(graph.input("int8", 2, 3), 0.1, zero), 0.1, zero)
    assert kernels_of(graph.save(tmp_path / "model.onnx", same)) == ([], 1)


def test_what_is_no_function_of_one_byte_is_left_alone(tmp_path: Path) -> None:
    """Two tensors, a scale for each channel, a sum over elements, real numbers that the user asks for."""
    zero = np.array(0, np.int8)
    graph = Graph()
    x, y = (graph.real(graph.input("int8", 2, 3), 0.1, zero) for _ in range(2))
    both = graph.bytes(graph.node("Add", x, y), 0.2, zero)
    wide = graph.node("Add", graph.real(graph.input("int8", 3), 0.1, zero), graph.const(np.ones((2, 1), np.float32)))
    channels = graph.real(graph.input("int8", 2, 3), np.array([0.1, 0.2, 0.3]), np.zeros(3, np.int8))
    outputs = [both, graph.bytes(wide, 0.1, zero), graph.bytes(channels, 0.1, zero)]
    outputs.append(graph.bytes(graph.node("ReduceMean", x), 0.1, zero))
    names, count = kernels_of(graph.save(tmp_path / "model.onnx", *outputs, graph.node("Sigmoid", x)))
    assert count == 0 and not any("lookup" in name for name in names)


def test_tables_are_marked_for_wide_vectors_only(tmp_path: Path) -> None:
    graph = Graph()
    path = graph.save(tmp_path / "model.onnx", swish(graph, graph.input("int8", 4, 4), "int8"))
    mod, count = mark_lookups(tabulate_bytes(import_model(path).module)[0])
    assert count == 1
    for name, wanted in (("cpu:x86-64-v4", 1), ("cpu:x86-64-v3", 0), ("cpu:aarch64", 0)):
        marked, count = permute_tables(mod, parse(name)[0])
        found = sum(bool(f.attrs) and MARK in f.attrs for f in marked.functions.values())
        assert count == found == wanted
