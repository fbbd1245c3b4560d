"""What the image classifiers share: convolutions with random weights, and the classifier at the end."""

from __future__ import annotations

import numpy as np
import onnx

from zoo_models.graph import Graph, TensorInfo

CLASSES, SIZE = 1000, 224


class Network:
    """A graph in the making from an image ``x``; weights follow from the name, so the file is always the same."""

    def __init__(self, name: str):
        self.name, self.graph = name, Graph()
        self._random = np.random.default_rng(list(name.encode()))
        self._count = 0

    def conv(self, x: str, channels: int, outputs: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        """A convolution with bias and half its kernel as padding; He's initialisation keeps values at their size."""
        self._count += 1
        fan_in = channels // group * kernel * kernel
        weight = self._random.standard_normal((outputs, channels // group, kernel, kernel)) * (2 / fan_in) ** 0.5
        bias = self._random.standard_normal(outputs) * 0.01
        return self.graph.node(
            "Conv",
            x,
            self.graph.constant(f"conv{self._count}.weight", weight.astype(np.float32)),
            self.graph.constant(f"conv{self._count}.bias", bias.astype(np.float32)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            dilations=[1, 1],
            group=group,
        )

    def relu(self, x: str) -> str:
        return self.graph.node("Relu", x)

    def classifier(self, x: str, channels: int) -> onnx.ModelProto:
        """Mean over the picture and a linear layer: the model, with input x [batch, 3, 224, 224]."""
        x = self.graph.node("Flatten", self.graph.node("GlobalAveragePool", x), axis=1)
        weight = (self._random.standard_normal((CLASSES, channels)) * channels**-0.5).astype(np.float32)
        parts = self.graph.constant("fc.weight", weight), self.graph.constant("fc.bias", np.zeros(CLASSES, np.float32))
        self.graph.node("Gemm", x, *parts, output="logits", transB=1)
        image: TensorInfo = ("x", onnx.TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
        logits: TensorInfo = ("logits", onnx.TensorProto.FLOAT, ["batch", CLASSES])
        return self.graph.model(self.name, [image], [logits], 17)
