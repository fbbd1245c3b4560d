"""MobileNetV2 (arXiv:1801.04381) at full width."""

from __future__ import annotations

import numpy as np
import onnx

from .network import Network

# expansion, output channels, repeats, stride of the first: Table 2 of the paper
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def build_mobilenet_v2() -> onnx.ModelProto:
    """Input x [batch, 3, 224, 224], output logits [batch, 1000]; 3.5 million weights."""
    network = Network("mobilenet_v2")
    network.graph.constant("zero", np.float32(0))
    network.graph.constant("six", np.float32(6))
    x, channels = _relu6(network, network.conv("x", 3, 32, 3, stride=2)), 32
    for expansion, outputs, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            x = _block(network, x, channels, outputs, first_stride if repeat == 0 else 1, expansion)
            channels = outputs
    x = _relu6(network, network.conv(x, channels, 1280, 1))
    return network.classifier(x, 1280)


def _relu6(network: Network, x: str) -> str:
    return network.graph.node("Clip", x, "zero", "six")


def _block(network: Network, x: str, channels: int, outputs: int, stride: int, expansion: int) -> str:
    """An inverted residual block."""
    hidden, y = channels * expansion, x
    if expansion != 1:
        y = _relu6(network, network.conv(y, channels, hidden, 1))
    y = _relu6(network, network.conv(y, hidden, hidden, 3, stride, group=hidden))
    y = network.conv(y, hidden, outputs, 1)
    return network.graph.node("Add", x, y) if stride == 1 and channels == outputs else y
