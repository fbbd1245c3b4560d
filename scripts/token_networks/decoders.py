"""Decoders, with keys and values of the past where they have any."""

from __future__ import annotations

import numpy as np
import onnx

from .layers import BATCH, TOKENS, Tokens

INT64, PAST = onnx.TensorProto.INT64, "past"


def gpt2(net: Tokens) -> str:
    """GPT-2: products as Gemm between reshapes, a causal mask cut out of a constant, tanh GELU in pieces."""
    ids = net.input("ids", INT64, BATCH, TOKENS)
    x = net.embedding(ids, 1000, 256)
    for layer in range(4):
        past = [net.floats_input(f"past_{name}_{layer}", BATCH, 4, PAST, 64) for name in "kv"]
        y = net.reshape(_gemm(net, net.layer_norm(x, 256), 256, 768), 0, -1, 768)
        q, k, v = (net.heads(net.slice(y, 256 * i, 256 * i + 256, 2), 4, 64) for i in range(3))
        k, v = (net.node("Concat", old, new, axis=2) for old, new in zip(past, (k, v), strict=True))
        net.outputs += [k, v]
        scores = net.node("Div", net.node("MatMul", q, net.transpose(k, 0, 1, 3, 2)), net.scalar(8))
        scores = net.node("Where", _causal(net, q, k), scores, net.scalar(-3e38))
        y = net.node("MatMul", net.node("Softmax", scores, axis=-1), v)
        y = net.reshape(_gemm(net, net.reshape(net.transpose(y, 0, 2, 1, 3), 0, -1, 256), 256, 256), 0, -1, 256)
        x = net.node("Add", x, y)
        hidden = net.tanh_gelu(net.reshape(_gemm(net, net.layer_norm(x, 256), 256, 1024), 0, -1, 1024))
        x = net.node("Add", x, net.reshape(_gemm(net, hidden, 1024, 256), 0, -1, 256))
    return net.bare(net.layer_norm(x, 256), 256, 1000)


def _gemm(net: Tokens, x: str, inputs: int, outputs: int) -> str:
    """[B, T, inputs] to [B * T, outputs], reshaped by the sizes of what follows."""
    weight, bias = net.random(inputs, outputs, scale=inputs**-0.5), net.random(outputs, scale=0.1)
    flat = net.node("Gemm", net.reshape(x, -1, inputs), weight, bias)
    lead = net.node("Slice", net.node("Shape", x), net.ints(0), net.ints(2), net.ints(0))
    return net.node("Reshape", flat, net.node("Concat", lead, net.ints(outputs), axis=0))


def _causal(net: Tokens, q: str, k: str) -> str:
    """Rows of a lower triangle [1, 1, 128, 128] that end with the last key."""
    whole = net.constant(np.tril(np.ones((1, 1, 128, 128), bool)))
    tokens, keys = net.dim(q, 2), net.dim(k, 2)
    rows = net.node("Slice", whole, net.node("Sub", keys, tokens), keys, net.ints(2))
    return net.node("Slice", rows, net.ints(0), keys, net.ints(3))


def llama(net: Tokens) -> str:
    """LLaMA's kind without a past: RMSNorm, rotated halves, grouped queries by Expand, SiLU gates, tied words."""
    ids = net.input("ids", INT64, BATCH, TOKENS)
    words = net.random(1000, 256, scale=0.5)
    x = net.node("Gather", words, ids, axis=0)
    cos, sin = _angles(net, ids)
    mask = _triangle(net, ids)
    for _ in range(4):
        y = net.rms_norm(x, 256)
        q = _rotated(net, net.heads(net.bare(y, 256, 256), 8, 32), cos, sin)
        k = _repeated(net, _rotated(net, net.heads(net.bare(y, 256, 64), 2, 32), cos, sin))
        v = _repeated(net, net.heads(net.bare(y, 256, 64), 2, 32))
        x = net.node("Add", x, net.bare(net.attend(q, k, v, 32**-0.5, mask, 256), 256, 256))
        y = net.rms_norm(x, 256)
        gate, up = net.bare(y, 256, 704), net.bare(y, 256, 704)
        y = net.node("Mul", net.node("Mul", gate, net.node("Sigmoid", gate)), up)
        x = net.node("Add", x, net.bare(y, 704, 256))
    return net.node("MatMul", net.rms_norm(x, 256), net.transpose(words, 1, 0))


def _positions(net: Tokens, ids: str) -> str:
    length = net.node("Squeeze", net.dim(ids, 1), net.ints(0))
    return net.node("Range", net.constant(np.int64(0)), length, net.constant(np.int64(1)))


def _angles(net: Tokens, ids: str) -> tuple[str, str]:
    """cos and sin [1, 1, T, 32] of positions times frequencies (arXiv:2104.09864)."""
    steps = net.node("Unsqueeze", net.node("Cast", _positions(net, ids), to=1), net.ints(1))
    turns = net.node("Mul", steps, net.constant(10000.0 ** -(np.arange(16, dtype=np.float32) / 16)))
    both = net.node("Unsqueeze", net.node("Concat", turns, turns, axis=-1), net.ints(0, 1))
    return net.node("Cos", both), net.node("Sin", both)


def _rotated(net: Tokens, x: str, cos: str, sin: str) -> str:
    first, second = net.slice(x, 0, 16, 3), net.slice(x, 16, 2**31 - 1, 3)
    turned = net.node("Concat", net.node("Neg", second), first, axis=-1)
    return net.node("Add", net.node("Mul", x, cos), net.node("Mul", turned, sin))


def _repeated(net: Tokens, x: str) -> str:
    """Two heads of keys for eight of queries."""
    wide = net.node("Unsqueeze", x, net.ints(2))
    shape = net.node("Concat", net.dim(x, 0), net.ints(2, 4), net.dim(x, 2), net.ints(32), axis=0)
    return net.reshape(net.node("Expand", wide, shape), 0, 8, -1, 32)


def _triangle(net: Tokens, ids: str) -> str:
    """[T, T]: what is added, so that nothing looks ahead."""
    length = net.dim(ids, 1)
    shape = net.node("Concat", length, length, axis=0)
    low = net.node("ConstantOfShape", shape, value=onnx.numpy_helper.from_array(np.full(1, -3e38, np.float32)))
    return net.node("Trilu", low, net.constant(np.int64(1)), upper=1)


def cross_decoder(net: Tokens) -> str:
    """A step of Whisper's kind of decoder: a past of its own, and the sound's keys and values."""
    ids = net.input("ids", INT64, BATCH, 1)
    x = net.embedding(ids, 1000, 256)
    for layer in range(4):
        y = net.layer_norm(x, 256)
        q, k, v = (net.heads(net.linear(y, 256, 256), 4, 64) for _ in "qkv")
        past = [net.floats_input(f"past_{name}_{layer}", BATCH, 4, PAST, 64) for name in "kv"]
        k, v = (net.node("Concat", old, new, axis=2) for old, new in zip(past, (k, v), strict=True))
        net.outputs += [k, v]
        x = net.node("Add", x, net.linear(net.attend(q, k, v, 0.125, "", 256), 256, 256))
        q = net.heads(net.linear(net.layer_norm(x, 256), 256, 256), 4, 64)
        k, v = (net.floats_input(f"sound_{name}_{layer}", BATCH, 4, 300, 64) for name in "kv")
        x = net.node("Add", x, net.linear(net.attend(q, k, v, 0.125, "", 256), 256, 256))
        x = net.node("Add", x, net.feed_forward(net.layer_norm(x, 256), 256))
    return net.bare(net.layer_norm(x, 256), 256, 1000)
