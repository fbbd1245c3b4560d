"""Float models for tests of quantization, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime

Array = np.ndarray


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, Array],
    opset: int = 17,
) -> onnx.ModelProto:
    """A float32 model; constants keep their dtype."""
    graph = oh.make_graph(
        list(nodes),
        "graph",
        [oh.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [oh.make_tensor_value_info(name, 1, None) for name in outputs],
        [nh.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)  # outputs need a shape
    del model.graph.value_info[:]
    return model


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after its first output; names are separated by spaces, "-" is an omitted input."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return oh.make_node(op_type, names, outputs.split(), name=f"{outputs.split()[0]}_node", **attributes)


def residual_network(opset: int = 17, size: int = 13) -> onnx.ModelProto:
    """Convolutions with batch normalization, a residual addition, pooling, depthwise, and a classifier."""
    random = np.random.default_rng(5)
    constants: dict[str, Array] = {}

    def weights(name: str, *shape: int) -> None:
        fan = np.prod(shape[1:])
        constants[name] = (random.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)

    weights("w1", 8, 3, 3, 3)
    weights("w2", 8, 8, 3, 3)
    weights("w3", 8, 1, 3, 3)
    weights("w4", 10, 8)
    constants["b2"] = random.standard_normal(8).astype(np.float32)
    constants["b4"] = random.standard_normal(10).astype(np.float32)
    for name, low, high in (("gamma", 0.5, 2), ("beta", -1, 1), ("mean", -1, 1), ("var", 0.2, 2)):
        constants[name] = random.uniform(low, high, 8).astype(np.float32)
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 gamma beta mean var", "n1"),
        node("Relu", "n1", "r1"),
        node("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1]),
        node("Add", "c2 r1", "a2"),
        node("Relu", "a2", "r2"),
        node("MaxPool", "r2", "p2", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", "p2 w3", "c3", group=8, pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "c3", "g3"),
        node("Flatten", "g3", "f3"),
        node("Gemm", "f3 w4 b4", "y", transB=1),
    ]
    return graph_model(nodes, {"x": ["n", 3, size, size]}, ["y"], constants, opset)


def rewritten(model: onnx.ModelProto, rewrite: Callable[[ir.Model], Any]) -> onnx.ModelProto:
    """The model after a function has changed it on the level of onnx-ir."""
    changed = ir.from_proto(model)
    rewrite(changed)
    common.RemoveUnusedNodesPass()(changed)
    proto = ir.to_proto(changed)
    onnx.checker.check_model(proto)
    return proto


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """ONNX Runtime's answer, without its optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators in order."""
    return [item.op_type for item in model.graph.node]


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def signal_to_noise(expected: Array, found: Array) -> float:
    """In decibels."""
    error = np.square(expected.astype(np.float64) - found).sum()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / error)) if error else np.inf
