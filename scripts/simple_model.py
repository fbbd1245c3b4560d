"""Write the textbook's SimpleModel as PyTorch's exporter would: Conv-ReLU-MaxPool-Linear with an open batch.

    python scripts/simple_model.py OUT.onnx

Names, attributes and initial ranges are those of torch.nn; the seed is fixed, so the file is always the same.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNELS, CLASSES, SIZE = 16, 10, 32


def build() -> onnx.ModelProto:
    """The model: input x [batch, 3, 32, 32], output [batch, 10], opset 17."""
    features = CHANNELS * (SIZE // 2) ** 2
    random = np.random.default_rng(0)
    weights = [
        _uniform(random, "conv1.weight", (CHANNELS, 3, 3, 3), fan_in=27),
        _uniform(random, "conv1.bias", (CHANNELS,), fan_in=27),
        _uniform(random, "fc.weight", (CLASSES, features), fan_in=features),
        _uniform(random, "fc.bias", (CLASSES,), fan_in=features),
    ]
    square = {"dilations": [1, 1], "pads": [1, 1, 1, 1], "strides": [1, 1]}
    pool = {"ceil_mode": 0, "dilations": [1, 1], "kernel_shape": [2, 2], "pads": [0, 0, 0, 0], "strides": [2, 2]}
    nodes = [
        _node("Conv", "/conv1/Conv", ["x", "conv1.weight", "conv1.bias"], group=1, kernel_shape=[3, 3], **square),
        _node("Relu", "/relu/Relu", ["/conv1/Conv_output_0"]),
        _node("MaxPool", "/pool/MaxPool", ["/relu/Relu_output_0"], **pool),
        _node("Flatten", "/Flatten", ["/pool/MaxPool_output_0"], axis=1),
        _node("Gemm", "/fc/Gemm", ["/Flatten_output_0", "fc.weight", "fc.bias"], alpha=1.0, beta=1.0, transB=1),
    ]
    nodes[-1].output[0] = "output"
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _uniform(random: np.random.Generator, name: str, shape: tuple[int, ...], fan_in: int) -> onnx.TensorProto:
    bound = fan_in**-0.5
    return numpy_helper.from_array(random.uniform(-bound, bound, shape).astype(np.float32), name)


def _node(op_type: str, name: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [f"{name}_output_0"], name=name, **attributes)


if __name__ == "__main__":
    onnx.save(build(), sys.argv[1])
