"""Quantized ONNX graphs written node by node, and how far what is compiled of them is from ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnxruntime

import onnxkiln
from onnxkiln.artifacts.manifest import from_bytes

RNG = np.random.default_rng(3)


def byte(low: int, high: int, *shape: int) -> np.ndarray:
    """With both ends of the range in it."""
    array = RNG.integers(low, high + 1, shape)
    array.reshape(-1)[:2] = (high, low)[: array.size]
    return array.astype("uint8" if low == 0 else "int8")


class Graph:
    """A quantized ONNX graph, node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def const(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(nh.from_array(np.asarray(array), name))
        return name

    def input(self, dtype: str, *shape: int | str) -> str:
        name = f"x{len(self.inputs)}"
        kind = oh.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(oh.make_tensor_value_info(name, kind, shape))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(oh.make_node(kind, inputs, [name], **attributes))
        return name

    def real(self, value: str, scale: float | np.ndarray, zero: np.ndarray, axis: int = 1) -> str:
        scales = self.const(np.asarray(scale, np.float32))
        return self.node("DequantizeLinear", value, scales, self.const(zero), axis=axis)

    def bytes(self, value: str, scale: float, zero: np.ndarray) -> str:
        return self.node("QuantizeLinear", value, self.const(np.float32(scale)), self.const(zero))

    def save(self, path: Path, *outputs: str) -> Path:
        results = [oh.make_empty_tensor_value_info(name) for name in outputs]
        body = oh.make_graph(self.nodes, "quantized", self.inputs, results, self.constants)
        model = oh.make_model(body, opset_imports=[oh.make_opsetid("", 17)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path


def quanta(folder: Path, path: Path, *arrays: np.ndarray) -> tuple[int, set[str | None]]:
    """The largest difference from ONNX Runtime over all outputs, in steps; and the templates that ran."""
    feeds = {f"x{i}": array for i, array in enumerate(arrays)}
    wanted = onnxruntime.InferenceSession(str(path)).run(None, feeds)
    artifact = onnxkiln.compile(path, folder / "artifact", force=True)
    with onnxkiln.load(artifact) as session:
        got = session.run(None, feeds)
    away = max(int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max()) for a, b in zip(got, wanted, strict=True))
    return away, {kernel.template for kernel in from_bytes((artifact / "manifest.json").read_bytes()).kernels}
