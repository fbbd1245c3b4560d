"""Encoders of texts and pictures."""

from __future__ import annotations

import numpy as np
import onnx

from .layers import BATCH, TOKENS, Tokens

INT64 = onnx.TensorProto.INT64


def bert(net: Tokens) -> str:
    """BERT (arXiv:1810.04805), 256 wide: a mask that is added, GELU by Erf."""
    ids, mask = (net.input(name, INT64, BATCH, TOKENS) for name in ("ids", "mask"))
    added = net.padding_mask(mask)
    places = net.node("Slice", net.random(512, 256, scale=0.5), net.ints(0), net.dim(ids, 1), net.ints(0))
    x = net.norm(net.node("Add", net.embedding(ids, 1000, 256), places), 256)
    for _ in range(4):
        x = net.post_norm_block(x, 256, 8, added)
    pooled = net.node("Squeeze", net.slice(x, 0, 1, 1), net.ints(1))
    return net.linear(pooled, 256, 256, "tanh")


def distilbert(net: Tokens) -> str:
    """DistilBERT (arXiv:1910.01108): masked scores are filled in by Where over an expanded condition."""
    ids, mask = (net.input(name, INT64, BATCH, TOKENS) for name in ("ids", "mask"))
    x = net.norm(net.embedding(ids, 1000, 384), 384)
    hidden = net.node("Equal", net.reshape(mask, 0, 1, 1, -1), net.constant(np.int64(0)))
    for _ in range(3):
        q, k, v = (net.heads(net.linear(x, 384, 384), 12, 32) for _ in "qkv")
        q = net.node("Div", q, net.scalar(32**0.5))
        scores = net.node("MatMul", q, net.transpose(k, 0, 1, 3, 2))
        filled = net.node("Where", net.node("Expand", hidden, net.node("Shape", scores)), net.scalar(-3e38), scores)
        y = net.node("MatMul", net.node("Softmax", filled, axis=-1), v)
        y = net.linear(net.reshape(net.transpose(y, 0, 2, 1, 3), 0, -1, 384), 384, 384)
        x = net.norm(net.node("Add", y, x), 384)
        x = net.norm(net.node("Add", net.feed_forward(x, 384), x), 384)
    return x


def t5_encoder(net: Tokens) -> str:
    """T5 (arXiv:1910.10683): scores are not scaled, a bias by distance is added, RMSNorm, no biases elsewhere."""
    ids = net.input("ids", INT64, BATCH, TOKENS)
    x = net.embedding(ids, 1000, 256)
    length = net.node("Squeeze", net.dim(ids, 1), net.ints(0))
    steps = net.node("Range", net.constant(np.int64(0)), length, net.constant(np.int64(1)))
    apart = net.node("Sub", net.node("Unsqueeze", steps, net.ints(0)), net.node("Unsqueeze", steps, net.ints(1)))
    bucket = net.node("Add", net.node("Clip", apart, net.constant(np.int64(-16)), net.constant(np.int64(15))),
                      net.constant(np.int64(16)))  # fmt: skip
    bias = net.node("Gather", net.random(32, 4), bucket, axis=0)
    bias = net.node("Unsqueeze", net.transpose(bias, 2, 0, 1), net.ints(0))
    for _ in range(4):
        y = net.rms_norm(x, 256)
        q, k, v = (net.heads(net.bare(y, 256, 256), 4, 64) for _ in "qkv")
        x = net.node("Add", x, net.bare(net.attend(q, k, v, None, bias, 256), 256, 256))
        y = net.node("Relu", net.bare(net.rms_norm(x, 256), 256, 1024))
        x = net.node("Add", x, net.bare(y, 1024, 256))
    return net.rms_norm(x, 256)


def vit(net: Tokens) -> str:
    """ViT (arXiv:2010.11929), 192 wide: patches by a convolution, a class token in front."""
    net.rank = 2
    x = net.floats_input("x", BATCH, 3, 224, 224)
    net.channels[x] = 3
    x = net.transpose(net.reshape(net.conv(x, 192, 16, 16, act="none", pads=(0, 0, 0, 0)), 0, 192, -1), 0, 2, 1)
    shape = net.node("Concat", net.dim(x, 0), net.ints(1, 192), axis=0)
    x = net.node("Concat", net.node("Expand", net.random(1, 1, 192), shape), x, axis=1)
    x = net.node("Add", x, net.random(1, 197, 192))
    for _ in range(6):
        x = net.pre_norm_block(x, 192, 3)
    x = net.layer_norm(x, 192)
    return net.linear(net.node("Gather", x, net.constant(np.int64(0)), axis=1), 192, 1000)


def swin(net: Tokens) -> str:
    """Swin (arXiv:2103.14030): windows of 7 by 7, every second time shifted, with a bias by place and a mask."""
    net.rank = 2
    x = net.floats_input("x", BATCH, 3, 224, 224)
    net.channels[x] = 3
    x = net.transpose(net.conv(x, 96, 8, 8, act="none", pads=(0, 0, 0, 0)), 0, 2, 3, 1)
    for shifted in (False, True, False, True):
        x = net.node("Add", x, _windows(net, net.layer_norm(x, 96), shifted))
        x = net.node("Add", x, net.feed_forward(net.layer_norm(x, 96), 96))
    merged = net.transpose(net.reshape(x, 0, 14, 2, 14, 2, 96), 0, 1, 3, 4, 2, 5)
    x = net.bare(net.layer_norm(net.reshape(merged, 0, 196, 384), 384), 384, 192)
    return net.node("ReduceMean", net.layer_norm(x, 192), axes=[1], keepdims=0)


def _windows(net: Tokens, x: str, shifted: bool) -> str:
    size, count, heads, width = 7, 4, 3, 96
    if shifted:
        x = _rolled(net, x, 3)
    x = net.transpose(net.reshape(x, 0, count, size, count, size, width), 0, 1, 3, 2, 4, 5)
    x = net.reshape(x, -1, size * size, width)
    parts = net.transpose(net.reshape(net.linear(x, width, 3 * width), 0, size * size, 3, heads, 32), 2, 0, 3, 1, 4)
    q, k, v = (net.node("Gather", parts, net.constant(np.int64(i)), axis=0) for i in range(3))
    bias = net.random(1, heads, size * size, size * size)
    x = net.linear(net.attend(net.node("Mul", q, net.scalar(32**-0.5)), k, v, None, bias, width), width, width)
    x = net.transpose(net.reshape(x, -1, count, count, size, size, width), 0, 1, 3, 2, 4, 5)
    x = net.reshape(x, -1, count * size, count * size, width)
    return _rolled(net, x, count * size - 3) if shifted else x


def _rolled(net: Tokens, x: str, by: int) -> str:
    for axis in (1, 2):
        x = net.node("Concat", net.slice(x, by, 2**31 - 1, axis), net.slice(x, 0, by, axis), axis=axis)
    return x


def mixer(net: Tokens) -> str:
    """MLP-Mixer (arXiv:2105.01601) behind its patches."""
    x = net.floats_input("x", BATCH, 196, 256)
    for _ in range(4):
        y = net.transpose(net.layer_norm(x, 256), 0, 2, 1)
        y = net.linear(net.linear(y, 196, 384, "gelu"), 384, 196)
        x = net.node("Add", x, net.transpose(y, 0, 2, 1))
        x = net.node("Add", x, net.feed_forward(net.layer_norm(x, 256), 256))
    return net.node("ReduceMean", x, axes=[1], keepdims=0)


def retrieval(net: Tokens) -> str:
    """Words' mean, a small tower, and scores against many stored vectors."""
    ids = net.input("ids", INT64, BATCH, TOKENS)
    x = net.node("ReduceMean", net.embedding(ids, 5000, 128), axes=[1], keepdims=0)
    x = net.linear(net.linear(x, 128, 256, "relu"), 256, 128)
    return net.node("MatMul", net.node("LpNormalization", x, axis=-1), net.random(128, 20000, scale=0.1))


def small_mlp(net: Tokens) -> str:
    """A few microseconds of work."""
    x = net.floats_input("x", BATCH, 32)
    return net.node("Softmax", net.linear(net.linear(net.linear(x, 32, 64, "relu"), 64, 64, "tanh"), 64, 10), axis=-1)
