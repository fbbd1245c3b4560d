"""ResNet-18 and ResNet-50 (arXiv:1512.03385), with the stride of a bottleneck in its 3x3 convolution, as in torch."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .network import Network

WIDTHS = (64, 128, 256, 512)


def build_resnet18() -> onnx.ModelProto:
    """Input x [batch, 3, 224, 224], output logits [batch, 1000]; 11.7 million weights."""
    return _build("resnet18", (2, 2, 2, 2), bottleneck=False)


def build_resnet50() -> onnx.ModelProto:
    """Input x [batch, 3, 224, 224], output logits [batch, 1000]; 25.5 million weights."""
    return _build("resnet50", (3, 4, 6, 3), bottleneck=True)


def _build(name: str, repeats: Sequence[int], bottleneck: bool) -> onnx.ModelProto:
    network = Network(name)
    x = network.relu(network.conv("x", 3, 64, 7, stride=2))
    x = network.graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (count, width) in enumerate(zip(repeats, WIDTHS)):
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            x, channels = _block(network, x, channels, width, stride, bottleneck)
    return network.classifier(x, channels)


def _block(
    network: Network, x: str, channels: int, width: int, stride: int, bottleneck: bool
) -> tuple[str, int]:
    """A residual block; its output and how many channels that has."""
    if bottleneck:
        outputs = 4 * width
        y = network.relu(network.conv(x, channels, width, 1))
        y = network.relu(network.conv(y, width, width, 3, stride))
        y = network.conv(y, width, outputs, 1)
    else:
        outputs = width
        y = network.relu(network.conv(x, channels, width, 3, stride))
        y = network.conv(y, width, width, 3)
    skip = x if stride == 1 and channels == outputs else network.conv(x, channels, outputs, 1, stride)
    return network.relu(network.graph.node("Add", y, skip)), outputs
