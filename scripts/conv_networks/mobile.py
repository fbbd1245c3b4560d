"""Small image classifiers: depthwise convolutions, gates, shuffled channels, a little attention."""

from __future__ import annotations

from .layers import Layers


def mobilenet_v1(net: Layers) -> str:
    """arXiv:1704.04861."""
    x = net.conv("x", 32, 3, 2)
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 3, (1024, 2)):
        x = net.conv(net.depthwise(x, 3, stride), width, 1)
    return net.classifier(x)


def mobilenet_v3(net: Layers) -> str:
    """MobileNetV3-large (arXiv:1905.02244): HardSwish, squeeze-and-excite."""
    x = net.conv("x", 16, 3, 2, act="hardswish")
    for kernel, hidden, width, gated, act, stride in (
        (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 1, "relu", 2),
        (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1), (3, 240, 80, 0, "hardswish", 2),
        (3, 200, 80, 0, "hardswish", 1), (3, 184, 80, 0, "hardswish", 1), (3, 184, 80, 0, "hardswish", 1),
        (3, 480, 112, 1, "hardswish", 1), (3, 672, 112, 1, "hardswish", 1), (5, 672, 160, 1, "hardswish", 2),
        (5, 960, 160, 1, "hardswish", 1), (5, 960, 160, 1, "hardswish", 1),
    ):  # fmt: skip
        y = net.conv(x, hidden, 1, act=act) if hidden != net.channels[x] else x
        y = net.depthwise(y, kernel, stride, act)
        y = net.squeeze_excite(y, hidden // 4, gate="hardsigmoid") if gated else y
        y = net.conv(y, width, 1, act="none")
        x = net.add(x, y) if stride == 1 and net.channels[x] == width else y
    return net.classifier(net.conv(x, 960, 1, act="hardswish"))


def efficientnet_b0(net: Layers) -> str:
    """arXiv:1905.11946: SiLU, squeeze-and-excite."""
    x = net.conv("x", 32, 3, 2, act="silu")
    for factor, width, count, first, kernel in (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ):  # fmt: skip
        for block in range(count):
            inputs, stride = net.channels[x], first if block == 0 else 1
            y = net.conv(x, inputs * factor, 1, act="silu") if factor > 1 else x
            y = net.squeeze_excite(net.depthwise(y, kernel, stride, "silu"), inputs // 4, "silu")
            y = net.conv(y, width, 1, act="none")
            x = net.add(x, y) if stride == 1 and inputs == width else y
    return net.classifier(net.conv(x, 1280, 1, act="silu"))


def shufflenet(net: Layers) -> str:
    """ShuffleNet v2 (arXiv:1807.11164) for 224x224: channels split, joined and shuffled."""

    def shuffled(x: str, size: int) -> str:
        channels = net.channels[x]
        y = net.node("Reshape", x, net.ints(0, 2, channels // 2, size, size))
        return net.node("Reshape", net.node("Transpose", y, perm=[0, 2, 1, 3, 4]), net.ints(0, channels, size, size))

    x = net.pool(net.conv("x", 24, 3, 2), 3, 2, 1)
    for width, count, size in ((116, 4, 28), (232, 8, 14), (464, 4, 7)):
        half = width // 2
        left = net.conv(net.depthwise(x, 3, 2, "none"), half, 1)
        right = net.conv(net.depthwise(net.conv(x, half, 1), 3, 2, "none"), half, 1)
        x = shuffled(net.concat(left, right), size)
        for _ in range(count - 1):
            left, right = net.split(x, half, half)
            right = net.conv(net.depthwise(net.conv(right, half, 1), 3, 1, "none"), half, 1)
            x = shuffled(net.concat(left, right), size)
    return net.classifier(net.conv(x, 1024, 1))


def ghostnet(net: Layers) -> str:
    """GhostNet (arXiv:1911.11907): half of the channels are cheap copies by a depthwise convolution."""

    def ghost(x: str, width: int, act: str) -> str:
        own = net.conv(x, width // 2, 1, act=act)
        return net.concat(own, net.depthwise(own, 3, 1, act))

    x = net.conv("x", 16, 3, 2)
    for kernel, hidden, width, gated, stride in (
        (3, 16, 16, 0, 1), (3, 48, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2), (5, 120, 40, 1, 1),
        (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 480, 112, 1, 1), (5, 672, 160, 1, 2), (5, 960, 160, 1, 1),
    ):  # fmt: skip
        y = ghost(x, hidden, "relu")
        y = net.depthwise(y, kernel, stride, "none") if stride > 1 else y
        y = net.squeeze_excite(y, hidden // 4, gate="hardsigmoid") if gated else y
        y = ghost(y, width, "none")
        same = stride == 1 and net.channels[x] == width
        skip = x if same else net.conv(net.depthwise(x, kernel, stride, "none"), width, 1, act="none")
        x = net.add(y, skip)
    return net.classifier(net.conv(x, 960, 1))


def mobilevit(net: Layers) -> str:
    """Convolutions around a block of attention over the places of an 8x8 map, as in arXiv:2110.02178."""

    def inverted(x: str, width: int, stride: int) -> str:
        inputs = net.channels[x]
        y = net.depthwise(net.conv(x, 4 * inputs, 1, act="silu"), 3, stride, "silu")
        y = net.conv(y, width, 1, act="none")
        return net.add(x, y) if stride == 1 and inputs == width else y

    def attention(x: str, width: int, heads: int) -> str:
        q, k, v = (
            net.node("Transpose", net.node("Reshape", net.linear(x, width, width), net.ints(0, 0, heads, -1)), perm=p)
            for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = net.node("Mul", net.node("MatMul", q, k), net.floats((width / heads) ** -0.5))
        y = net.node("MatMul", net.node("Softmax", scores, axis=-1), v)
        joined = net.node("Reshape", net.node("Transpose", y, perm=[0, 2, 1, 3]), net.ints(0, 0, width))
        return net.linear(joined, width, width)

    x = net.conv("x", 16, 3, 2, act="silu")
    for width, stride in ((32, 1), (64, 2), (64, 1), (96, 2), (128, 2), (160, 2)):
        x = inverted(x, width, stride)
    width, y = 144, net.conv(net.conv(x, 160, act="silu"), 144, 1, act="none")
    y = net.node("Transpose", net.node("Reshape", y, net.ints(0, width, 64)), perm=[0, 2, 1])
    for _ in range(3):
        y = net.add(y, attention(net.layer_norm(y, width), width, 4))
        y = net.add(y, net.linear(net.linear(net.layer_norm(y, width), width, 2 * width, "silu"), 2 * width, width))
    y = net.node("Reshape", net.node("Transpose", y, perm=[0, 2, 1]), net.ints(0, width, 8, 8), channels=width)
    x = net.conv(net.concat(x, net.conv(y, 160, 1, act="silu")), 160, act="silu")
    return net.classifier(net.conv(x, 640, 1, act="silu"))
