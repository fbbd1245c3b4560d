"""Networks by the operators of opset 23."""

from __future__ import annotations

import onnx

from .layers import BATCH, TOKENS, Tokens

INT64 = onnx.TensorProto.INT64


def opset_23(net: Tokens) -> str:
    """Attention, RMSNormalization and Gelu as operators: a decoder without a past."""
    ids = net.input("ids", INT64, BATCH, TOKENS)
    x = net.embedding(ids, 1000, 256)
    for _ in range(3):
        y = net.node("RMSNormalization", x, net.near_one(256))
        q, k, v = net.bare(y, 256, 256), net.bare(y, 256, 128), net.bare(y, 256, 128)
        y = net.node("Attention", q, k, v, q_num_heads=8, kv_num_heads=4, is_causal=1)
        x = net.node("Add", x, net.bare(y, 256, 256))
        y = net.node("Gelu", net.linear(net.node("RMSNormalization", x, net.near_one(256)), 256, 1024))
        x = net.node("Add", x, net.linear(y, 1024, 256))
    return net.bare(x, 256, 1000)
