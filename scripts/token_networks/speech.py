"""Networks over sound: transformers behind convolutions, recurrent ones, conformers."""

from __future__ import annotations

from .layers import BATCH, TOKENS, Tokens


def whisper_encoder(net: Tokens) -> str:
    """Whisper's encoder (arXiv:2212.04356), 256 wide, of 6 seconds."""
    x = net.floats_input("x", BATCH, 80, 600)
    net.channels[x] = 80
    x = net.conv(net.conv(x, 256, 3, act="gelu"), 256, 3, 2, act="gelu")
    x = net.node("Add", net.transpose(x, 0, 2, 1), net.random(300, 256))
    for _ in range(3):
        x = net.pre_norm_block(x, 256, 4)
    return net.layer_norm(x, 256)


def wav2vec_encoder(net: Tokens) -> str:
    """wav2vec 2.0's transformer: places by a wide grouped convolution, normalised behind each part."""
    x = net.floats_input("x", BATCH, TOKENS, 256)
    y = net.transpose(x, 0, 2, 1)
    net.channels[y] = 256
    y = net.conv(y, 256, 128, group=16, act="none", pads=(64, 64))
    y = net.act(net.slice(y, 0, -1, 2), "gelu")
    x = net.norm(net.node("Add", x, net.transpose(y, 0, 2, 1)), 256)
    for _ in range(3):
        x = net.post_norm_block(x, 256, 4)
    return net.linear(x, 256, 32)


def conformer(net: Tokens) -> str:
    """Two blocks of a Conformer (arXiv:2005.08100): attention and a gated depthwise convolution between halves."""
    x = net.floats_input("x", BATCH, TOKENS, 144)
    for _ in range(2):
        x = net.node("Add", x, _half(net, x))
        x = net.node("Add", x, net.attention(net.layer_norm(x, 144), 144, 4))
        y = net.transpose(net.layer_norm(x, 144), 0, 2, 1)
        net.channels[y] = 144
        y = net.conv(y, 288, 1, act="none")
        value, gate = net.split(y, 144, 144)
        y = net.node("Mul", value, net.node("Sigmoid", gate))
        net.channels[y] = 144
        y = net.conv(net.batch_norm(net.depthwise(y, 31, act="none"), "silu"), 144, 1, act="none")
        x = net.node("Add", x, net.transpose(y, 0, 2, 1))
        x = net.layer_norm(net.node("Add", x, _half(net, x)), 144)
    return x


def _half(net: Tokens, x: str) -> str:
    return net.node("Mul", net.feed_forward(net.layer_norm(x, 144), 144, "silu"), net.scalar(0.5))


def _recurrent(net: Tokens, kind: str, x: str, inputs: int, hidden: int, both: bool = False) -> str:
    """[T, B, inputs] to [T, B, directions * hidden]."""
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if both else 1
    weights = [net.random(ways, gates * hidden, size, scale=hidden**-0.5) for size in (inputs, hidden)]
    bias = net.random(ways, 2 * gates * hidden, scale=0.1)
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    y = net.node(kind, x, *weights, bias, hidden_size=hidden, direction="bidirectional" if both else "forward", **extra)
    return net.reshape(net.transpose(y, 0, 2, 1, 3), 0, -1, ways * hidden)


def bilstm(net: Tokens) -> str:
    """A recogniser's two layers in both directions."""
    x = net.transpose(net.floats_input("x", BATCH, TOKENS, 64), 1, 0, 2)
    x = _recurrent(net, "LSTM", x, 64, 128, both=True)
    x = _recurrent(net, "LSTM", x, 256, 128, both=True)
    return net.node("LogSoftmax", net.linear(net.transpose(x, 1, 0, 2), 256, 64), axis=-1)


def gru_stack(net: Tokens) -> str:
    """Noise suppression's kind: three layers that look back only."""
    x = net.transpose(net.floats_input("x", BATCH, TOKENS, 96), 1, 0, 2)
    for inputs in (96, 256, 256):
        x = _recurrent(net, "GRU", x, inputs, 256)
    return net.linear(net.transpose(x, 1, 0, 2), 256, 96, "sigmoid")


def keyword(net: Tokens) -> str:
    """Keyword spotting: a few 1-D convolutions, a recurrent layer, one answer."""
    x = net.floats_input("x", BATCH, 40, TOKENS)
    net.channels[x] = 40
    x = net.conv(net.conv(x, 64, 5, 2), 64, 3)
    x = _recurrent(net, "RNN", net.transpose(x, 2, 0, 1), 64, 64)
    return net.linear(net.node("ReduceMax", x, axes=[0], keepdims=0), 64, 12)
