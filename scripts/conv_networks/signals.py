"""Networks over one or three axes: sound and video."""

from __future__ import annotations

from .layers import Layers


def wavenet(net: Layers) -> str:
    """Gated dilated convolutions that look back only (arXiv:1609.03499), over sound [batch, 1, samples]."""
    x, total = net.conv("x", 64, 1, act="none"), ""
    for dilation in (1, 2, 4, 8, 16, 32, 64, 128):
        padded = net.node("Pad", x, net.ints(0, 0, dilation, 0, 0, 0))
        y = net.conv(padded, 128, 2, dilation=dilation, act="none", pads=(0, 0))
        tanh, gate = net.split(y, 64, 64)
        y = net.node("Mul", net.node("Tanh", tanh), net.node("Sigmoid", gate))
        skip = net.conv(y, 128, 1, act="none")
        total = net.add(total, skip) if total else skip
        x = net.add(net.conv(y, 64, 1, act="none"), x)
    return net.conv(net.conv(net.act(total, "relu"), 128, 1), 256, 1, act="none")


def tcn(net: Layers) -> str:
    """A temporal convolutional network (arXiv:1803.01271): dilated residual blocks that look back only."""
    x = "x"
    for dilation, width in ((1, 64), (2, 64), (4, 96), (8, 96), (16, 128)):
        y = x
        for _ in range(2):
            y = net.node("Pad", y, net.ints(0, 0, 2 * dilation, 0, 0, 0))
            y = net.conv(y, width, 3, dilation=dilation, pads=(0, 0))
        skip = x if net.channels[x] == width else net.conv(x, width, 1, act="none")
        x = net.add(y, skip, "relu")
    return net.classifier(x, 10)


def wav2vec(net: Layers) -> str:
    """wav2vec 2.0's feature extractor (arXiv:2006.11477), half as wide: long strides, GELU."""
    x = net.instance_norm(net.conv("x", 256, 10, 5, act="none", pads=(0, 0)), "gelu")
    for kernel in (3, 3, 3, 3, 2, 2):
        x = net.conv(x, 256, kernel, 2, act="gelu", pads=(0, 0))
    return x


def separable_1d(net: Layers) -> str:
    """QuartzNet's blocks (arXiv:1910.10261): long depthwise kernels over time, for spectra [batch, 64, frames]."""
    x = net.conv("x", 256, 33, 2)
    for kernel in (33, 39, 51):
        y = x
        for repeat in range(3):
            y = net.conv(net.depthwise(y, kernel, act="none"), 256, 1, act="relu" if repeat < 2 else "none")
        x = net.add(y, net.conv(x, 256, 1, act="none"), "relu")
    return net.node("LogSoftmax", net.conv(x, 29, 1, act="none"), axis=1)


def sound_unet(net: Layers) -> str:
    """Encoder and decoder over samples with skips (Demucs' and Wave-U-Net's kind)."""
    x, skips = "x", []
    for width in (32, 64, 128, 256):
        x = net.conv(net.conv(x, width, 8, 4, pads=(2, 2)), width, 1)
        skips.append(x)
    for skip in reversed(skips):
        x = net.conv(net.add(x, skip), net.channels[skip], 3)
        x = net.transposed(x, max(net.channels[skip] // 2, 16), 8, 4, act="relu")
    return net.conv(x, 1, 1, act="none")


def video(net: Layers) -> str:
    """An 18-layer 3-D ResNet's parts (arXiv:1711.11248), over [batch, 3, frames, height, width]."""
    x = net.conv("x", 32, (3, 7, 7), (1, 2, 2))
    for stage, width in enumerate((32, 64, 128)):
        stride = 2 if stage else 1
        skip = net.conv(x, width, 1, stride, act="none") if stage else x
        x = net.add(net.conv(net.conv(x, width, 3, stride), width, act="none"), skip, "relu")
    return net.classifier(x, 400)


def video_mixed(net: Layers) -> str:
    """(2+1)-D convolutions with 3-D pools between: over the picture first, then over time."""
    x = net.conv("x", 24, (1, 3, 3), (1, 2, 2))
    for width in (48, 96, 192):
        x = net.pool(net.conv(net.conv(x, width, (1, 3, 3)), width, (3, 1, 1)))
    return net.classifier(x, 101)
