"""Image classifiers of dense, grouped and concatenated convolutions, shortened where a paper repeats itself."""

from __future__ import annotations

from .layers import Layers


def vgg11(net: Layers) -> str:
    """arXiv:1409.1556, with narrower linear layers."""
    x = "x"
    for channels, pooled in ((64, 1), (128, 1), (256, 0), (256, 1), (512, 0), (512, 1), (512, 0), (512, 1)):
        x = net.conv(x, channels)
        x = net.pool(x) if pooled else x
    x = net.node("Flatten", x, axis=1)
    return net.linear(net.linear(x, 512 * 49, 1024, "relu"), 1024, 1000)


def alexnet(net: Layers) -> str:
    """The torchvision form, with narrower linear layers."""
    x = net.pool(net.conv("x", 64, 11, 4, pads=(2, 2, 2, 2)), 3)
    x = net.pool(net.conv(x, 192, 5), 3)
    x = net.pool(net.conv(net.conv(net.conv(x, 384), 256), 256), 3)
    return net.linear(net.linear(net.node("Flatten", x, axis=1), 256 * 36, 1024, "relu"), 1024, 1000)


def squeezenet(net: Layers) -> str:
    """SqueezeNet 1.1 (arXiv:1602.07360)."""
    x = net.pool(net.conv("x", 64, 3, 2, pads=(0, 0, 0, 0)), 3)
    for i, (squeezed, width) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256))):
        x = net.conv(x, squeezed, 1)
        x = net.concat(net.conv(x, width, 1), net.conv(x, width, 3))
        x = net.pool(x, 3) if i in (1, 3) else x
    return net.node("Flatten", net.node("GlobalAveragePool", net.conv(x, 1000, 1)), axis=1)


def densenet(net: Layers) -> str:
    """DenseNet-121's blocks (arXiv:1608.06993), half as many."""
    x = net.pool(net.conv("x", 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate((3, 6, 12, 8)):
        features = [x]
        for _ in range(count):
            x = net.concat(*features) if len(features) > 1 else x
            features.append(net.conv(net.conv(net.batch_norm(x), 128, 1), 32, act="none"))
        x = net.batch_norm(net.concat(*features))
        if stage < 3:
            x = net.pool(net.conv(x, net.channels[x] // 2, 1, act="none"), kind="AveragePool")
    return net.classifier(x)


def inception(net: Layers) -> str:
    """Inception v3's kinds of blocks (arXiv:1512.00567)."""
    unpadded = (0, 0, 0, 0)
    x = net.conv(net.conv("x", 32, 3, 2, pads=unpadded), 32, pads=unpadded)
    x = net.pool(net.conv(x, 64), 3)
    x = net.pool(net.conv(net.conv(x, 80, 1), 192, pads=unpadded), 3)
    for pooled in (32, 64):
        wide = net.conv(net.conv(net.conv(x, 64, 1), 96), 96)
        mean = net.conv(net.pool(x, 3, 1, 1, "AveragePool"), pooled, 1)
        x = net.concat(net.conv(x, 64, 1), net.conv(net.conv(x, 48, 1), 64, 5), wide, mean)
    halved = net.conv(net.conv(net.conv(x, 64, 1), 96), 96, 3, 2, pads=unpadded)
    x = net.concat(net.conv(x, 384, 3, 2, pads=unpadded), halved, net.pool(x, 3))
    for width in (128, 160):
        once = net.conv(net.conv(net.conv(x, width, 1), width, (1, 7)), 192, (7, 1))
        twice = net.conv(net.conv(net.conv(x, width, 1), width, (7, 1)), width, (1, 7))
        twice = net.conv(net.conv(twice, width, (7, 1)), 192, (1, 7))
        mean = net.conv(net.pool(x, 3, 1, 1, "AveragePool"), 192, 1)
        x = net.concat(net.conv(x, 192, 1), once, twice, mean)
    return net.classifier(x)


def regnet(net: Layers) -> str:
    """RegNetX-400MF (arXiv:2003.13678), the last stage shortened: groups of 16 channels."""
    x = net.conv("x", 32, 3, 2)
    for width, count in ((32, 1), (64, 2), (160, 7), (384, 6)):
        for block in range(count):
            stride = 2 if block == 0 else 1
            y = net.conv(net.conv(x, width, 1), width, 3, stride, group=width // 16)
            skip = net.conv(x, width, 1, stride, act="none") if block == 0 else x
            x = net.add(net.conv(y, width, 1, act="none"), skip, "relu")
    return net.classifier(x)


def resnext(net: Layers) -> str:
    """A ResNeXt of 32 groups (arXiv:1611.05431), two blocks a stage, groups of 4 to 32 channels."""
    x = net.pool(net.conv("x", 64, 7, 2), 3, 2, 1)
    for stage, width in enumerate((128, 256, 512, 1024)):
        for block in range(2):
            stride = 2 if block == 0 and stage > 0 else 1
            y = net.conv(net.conv(x, width, 1), width, 3, stride, group=32)
            skip = net.conv(x, 2 * width, 1, stride, act="none") if block == 0 else x
            x = net.add(net.conv(y, 2 * width, 1, act="none"), skip, "relu")
    return net.classifier(x)


def darknet(net: Layers) -> str:
    """Darknet-53's blocks with LeakyRelu (arXiv:1804.02767)."""
    x = net.conv("x", 32, act="leaky")
    for width, count in ((64, 1), (128, 2), (256, 3), (512, 2)):
        x = net.conv(x, width, 3, 2, act="leaky")
        for _ in range(count):
            x = net.add(x, net.conv(net.conv(x, width // 2, 1, act="leaky"), width, act="leaky"))
    return net.classifier(x)


def convnext(net: Layers) -> str:
    """ConvNeXt (arXiv:2201.03545), narrow: 7x7 depthwise, LayerNorm channels last, GELU with Erf."""
    widths = (48, 96, 192, 384)

    def norm_first(x: str) -> str:
        moved = net.node("Transpose", x, perm=[0, 2, 3, 1])
        return net.node("Transpose", net.layer_norm(moved, net.channels[x]), perm=[0, 3, 1, 2])

    x = norm_first(net.conv("x", widths[0], 4, 4, act="none", pads=(0, 0, 0, 0)))
    for stage, (width, count) in enumerate(zip(widths, (2, 2, 4, 2))):
        if stage:
            x = net.conv(norm_first(x), width, 2, 2, act="none", pads=(0, 0, 0, 0))
        for _ in range(count):
            y = net.node("Transpose", net.depthwise(x, 7, act="none"), perm=[0, 2, 3, 1])
            y = net.linear(net.linear(net.layer_norm(y, width), width, 4 * width, "gelu"), 4 * width, width)
            y = net.node("Mul", y, net.random(width, scale=0.1))
            x = net.add(x, net.node("Transpose", y, perm=[0, 3, 1, 2]))
    return net.classifier(x)
