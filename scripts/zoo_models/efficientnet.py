"""EfficientNet-Lite0 as a graph: Conv, BatchNormalization and Clip unfused, as a careless exporter leaves them."""

from __future__ import annotations

import math

import onnx

from .checkpoint import Weights, read_torch
from .graph import Graph, TensorInfo

# repeats, stride of the first, expansion, output channels: Table 1 of the EfficientNet paper (arXiv:1905.11946), B0
STAGES = [(1, 1, 1, 16), (2, 2, 6, 24), (2, 2, 6, 40), (3, 2, 6, 80), (3, 1, 6, 112), (4, 2, 6, 192), (1, 1, 6, 320)]


class _Network:
    """The graph with its weights; ``size`` follows the height of the activation, which the padding depends on."""

    def __init__(self, weights: Weights):
        self.weights, self.graph, self.size = weights, Graph(), 224
        self.graph.constant("zero", weights["_fc.bias"].dtype.type(0))
        self.graph.constant("six", weights["_fc.bias"].dtype.type(6))

    def weight(self, name: str) -> str:
        return self.graph.constant(name, self.weights[name])

    def conv(self, x: str, name: str, stride: int = 1, group: int = 1) -> str:
        """A convolution with TensorFlow's "same" padding, which puts the odd pixel after the picture."""
        kernel = self.weights[name].shape[2]
        size = math.ceil(self.size / stride)
        padding = max((size - 1) * stride + kernel - self.size, 0)
        before, after = padding // 2, padding - padding // 2
        self.size = size
        return self.graph.node(
            "Conv",
            x,
            self.weight(name),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=group,
            pads=[before, before, after, after],
        )

    def normalize(self, x: str, name: str) -> str:
        parts = [self.weight(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        return self.graph.node("BatchNormalization", x, *parts, epsilon=1e-3)

    def relu6(self, x: str) -> str:
        return self.graph.node("Clip", x, "zero", "six")

    def block(self, x: str, name: str, channels: int, stride: int, expansion: int, output_channels: int) -> str:
        """An inverted residual block."""
        skip = x
        if expansion != 1:
            x = self.relu6(self.normalize(self.conv(x, f"{name}._expand_conv.weight"), f"{name}._bn0"))
        x = self.conv(x, f"{name}._depthwise_conv.weight", stride, channels * expansion)
        x = self.relu6(self.normalize(x, f"{name}._bn1"))
        x = self.normalize(self.conv(x, f"{name}._project_conv.weight"), f"{name}._bn2")
        return self.graph.node("Add", x, skip) if stride == 1 and channels == output_channels else x


def build_efficientnet_lite0(data: bytes) -> onnx.ModelProto:
    """Input [batch, 3, 224, 224], output logits [batch, 1000]; ``data`` is the torch checkpoint."""
    network = _Network(read_torch(data))
    graph = network.graph
    x = network.relu6(network.normalize(network.conv("input", "_conv_stem.weight", stride=2), "_bn0"))
    channels, index = 32, 0
    for repeats, first_stride, expansion, output_channels in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = network.block(x, f"_blocks.{index}", channels, stride, expansion, output_channels)
            channels, index = output_channels, index + 1
    x = network.relu6(network.normalize(network.conv(x, "_conv_head.weight"), "_bn1"))
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)
    graph.node("Gemm", x, network.weight("_fc.weight"), network.weight("_fc.bias"), output="logits", transB=1)
    image: TensorInfo = ("input", onnx.TensorProto.FLOAT, ["batch", 3, 224, 224])
    logits: TensorInfo = ("logits", onnx.TensorProto.FLOAT, ["batch", 1000])
    return graph.model("efficientnet_lite0", [image], [logits], 13)
