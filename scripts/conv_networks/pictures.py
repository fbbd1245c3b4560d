"""Networks from a picture to one value at each of its places, or to another picture."""

from __future__ import annotations

from collections.abc import Callable

from .layers import Layers

NO_PADS = (0, 0, 0, 0)


def unet(net: Layers) -> str:
    """arXiv:1505.04597, half as wide, enlarged by transposed convolutions."""
    return _unet(net, lambda x, width: net.transposed(x, width))


def unet_linear(net: Layers) -> str:
    """The same, enlarged linearly."""
    return _unet(net, lambda x, width: net.conv(net.enlarge(x, mode="linear"), width, 1))


def _unet(net: Layers, enlarged: Callable[[str, int], str]) -> str:
    x, skips = "x", []
    for width in (32, 64, 128, 256):
        skips.append(net.conv(net.conv(x, width), width))
        x = net.pool(skips[-1])
    x = net.conv(net.conv(x, 512), 512)
    for skip in reversed(skips):
        width = net.channels[skip]
        x = net.concat(skip, enlarged(x, width))
        x = net.conv(net.conv(x, width), width)
    return net.conv(x, 2, 1, act="sigmoid")


def deeplab(net: Layers) -> str:
    """Dilated branches side by side (ASPP, arXiv:1706.05587), enlarged to the input's size."""
    x = net.conv(net.conv(net.conv("x", 32, 3, 2), 64, 3, 2), 128, 3, 2)
    branches = [net.conv(x, 64, 1), *(net.conv(x, 64, dilation=rate) for rate in (6, 12, 18))]
    mean = net.conv(net.node("GlobalAveragePool", x), 64, 1)
    x = net.conv(net.concat(*branches, net.resized_like(mean, x)), 64, 1)
    return net.resized_like(net.conv(x, 21, 1, act="none"), "x")


def pyramid(net: Layers) -> str:
    """A feature pyramid (arXiv:1612.03144) over a ResNet-like trunk; the finest level's head."""
    x, levels = net.pool(net.conv("x", 64, 7, 2), 3, 2, 1), []
    for width in (64, 128, 256):
        skip = net.conv(x, width, 1, 2, act="none")
        x = net.add(net.conv(net.conv(x, width, 3, 2), width, act="none"), skip, "relu")
        levels.append(net.conv(x, 128, 1, act="none"))
    top = levels[-1]
    for level in reversed(levels[:-1]):
        top = net.add(net.enlarge(top), level)
    return net.conv(net.conv(top, 128), 36, act="sigmoid")


def yolo(net: Layers) -> str:
    """A small detector of YOLOv5 to v8's parts: SiLU, split and joined blocks, SPPF, joined scales, boxes decoded."""

    def block(x: str, width: int, count: int) -> str:
        parts = net.split(net.conv(x, width, 1, act="silu"), width // 2, width // 2)
        for _ in range(count):
            y = net.conv(net.conv(parts[-1], width // 2, act="silu"), width // 2, act="silu")
            parts.append(net.add(parts[-1], y))
        return net.conv(net.concat(*parts), width, 1, act="silu")

    x, scales = net.conv("x", 16, 3, 2, act="silu"), []
    for width, count in ((32, 1), (64, 2), (128, 2), (256, 1)):
        x = block(net.conv(x, width, 3, 2, act="silu"), width, count)
        scales.append(x)
    pools = [net.conv(x, 128, 1, act="silu")]
    for _ in range(3):
        pools.append(net.pool(pools[-1], 5, 1, 2))
    x = net.conv(net.concat(*pools), 256, 1, act="silu")
    x = block(net.concat(net.enlarge(x), scales[2]), 128, 1)
    x = block(net.concat(net.enlarge(x), scales[1]), 64, 1)
    found = net.conv(net.conv(x, 64, act="silu"), 84, 1, act="none")
    flat = net.node("Reshape", found, net.ints(0, 84, -1))
    boxes, classes = net.split(flat, 4, 80)
    boxes = net.node("Mul", net.node("Pow", net.node("Sigmoid", boxes), net.floats(2)), net.floats(32))
    return net.concat(boxes, net.node("Sigmoid", classes))


def hrnet(net: Layers) -> str:
    """Branches of several sizes that exchange what they found (arXiv:1902.09212)."""

    def basic(x: str) -> str:
        width = net.channels[x]
        return net.add(net.conv(net.conv(x, width), width, act="none"), x, "relu")

    x = net.conv(net.conv("x", 64, 3, 2), 64, 3, 2)
    branches = [net.conv(x, 32), net.conv(x, 64, 3, 2)]
    for stage in range(3):
        branches = [basic(basic(branch)) for branch in branches]
        fused = []
        for i, own in enumerate(branches):
            total, width = own, net.channels[own]
            for j, other in enumerate(branches):
                y = other
                for _ in range(i - j):
                    y = net.conv(y, width, 3, 2, act="none")
                if j > i:
                    y = net.enlarge(net.conv(y, width, 1, act="none"), 2 ** (j - i))
                total = total if i == j else net.add(total, y)
            fused.append(net.act(total, "relu"))
        branches = fused + ([net.conv(fused[-1], 32 * 2 ** (stage + 2), 3, 2)] if stage < 2 else [])
    return net.conv(branches[0], 17, 1, act="none")


def autoencoder(net: Layers) -> str:
    """Convolutions of stride 2, and transposed ones of kernel 4 back; ELU."""
    x = "x"
    for width in (32, 64, 128, 256):
        x = net.conv(x, width, 4, 2, act="elu", pads=(1, 1, 1, 1))
    for width in (128, 64, 32):
        x = net.transposed(x, width, 4, act="elu")
    return net.transposed(x, 3, 4, act="sigmoid")


def espcn(net: Layers) -> str:
    """Super-resolution by sub-pixels (arXiv:1609.05158)."""
    x = net.conv(net.conv(net.conv("x", 64, 5, act="tanh"), 64, act="tanh"), 32, act="tanh")
    return net.node("DepthToSpace", net.conv(x, 9, act="none"), blocksize=3)


def super_resolution(net: Layers) -> str:
    """SRResNet's parts (arXiv:1609.04802): PRelu, residuals, channels moved to places twice (CRD)."""
    x = first = net.conv("x", 64, 9, act="prelu")
    for _ in range(4):
        x = net.add(net.conv(net.conv(x, 64, act="prelu"), 64, act="none"), x)
    x = net.instance_norm(net.add(net.conv(x, 64, act="none"), first), "none")
    for _ in range(2):
        x = net.node("DepthToSpace", net.conv(x, 256, act="none"), channels=64, blocksize=2, mode="CRD")
        x = net.act(x, "prelu")
    return net.conv(x, 3, 9, act="tanh")


def style_transfer(net: Layers) -> str:
    """Fast style transfer (arXiv:1603.08155): reflected padding, InstanceNormalization, nearest enlargement."""

    def layer(x: str, width: int, kernel: int, stride: int = 1, act: str = "relu") -> str:
        around = kernel // 2
        padded = net.node("Pad", x, net.ints(0, 0, around, around, 0, 0, around, around), mode="reflect")
        return net.instance_norm(net.conv(padded, width, kernel, stride, act="none", pads=NO_PADS), act)

    x = layer(layer(layer("x", 32, 9), 64, 3, 2), 128, 3, 2)
    for _ in range(3):
        x = net.add(layer(layer(x, 128, 3), 128, 3, act="none"), x)
    x = layer(layer(net.enlarge(x), 64, 3), 32, 3)
    return net.conv(layer(net.enlarge(x), 32, 3), 3, 9, act="tanh")
