"""Random nodes of ONNX Runtime's own domain, whose answers are those that ONNX Runtime gives for the node alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from graph_layers import finite
from graph_nodes import exact, picture
from graph_quantized import BYTES, _bytes, _scale, _zero
from graphs import ASSIGNMENTS, Builder, Value

DOMAIN = "com.microsoft"


def _node(b: Builder, op_type: str, *inputs: Value | None, **attributes: Any) -> list[Value]:
    return b.node(op_type, *inputs, domain=DOMAIN, **attributes)


def _plain(b: Builder, ranks: tuple[int, ...]) -> Value | None:
    """Exact, finite, not empty, its last axis fixed."""

    def accept(v: Value) -> bool:
        return exact(v) and v.fixed(v.rank - 1) and all(a.size and np.isfinite(a).all() for a in v.arrays)

    return b.operand(("float32",), ranks, accept=accept)


def activations(b: Builder) -> None:
    x = _plain(b, (1, 2, 3))
    if x is None:
        return
    op = b.choice(["Gelu", "FastGelu", "BiasGelu", "QuickGelu"])
    bias = [b.constant(b.array("float32", [x.axes[-1][0]]))] if op == "BiasGelu" or b.chance(0.3) else []
    if op in ("Gelu", "QuickGelu"):
        _node(b, op, x)
    else:
        _node(b, op, x, *bias)


def normalizations(b: Builder) -> None:
    x = _plain(b, (3,))
    if x is None:
        return
    width = x.axes[-1][0]
    skip = finite(b, x.axes)
    scale, shift, bias = (b.constant(b.array("float32", [width], 0.5, 2)) for _ in range(3))
    if b.chance(0.5):
        _node(b, "SkipLayerNormalization", x, skip, scale, shift, *([bias] if b.chance(0.5) else []), epsilon=1e-3)
    else:
        _node(b, "SkipSimplifiedLayerNormalization", x, skip, scale, *([bias] if b.chance(0.5) else []), epsilon=1e-3)


def fused_products(b: Builder) -> None:
    if b.chance(0.4):
        x = picture(b, 2)
        if x.exact and all(a.size for a in x.arrays):
            w = b.constant(b.array("float32", [b.choice([1, 5, 16]), x.axes[1][0], 1, 1], -1, 1))
            _node(b, "FusedConv", x, w, kernel_shape=[1, 1], activation=b.choice(["Relu", "Sigmoid", "Tanh"]))
        return
    x = _plain(b, (2, 3))
    if x is None:
        return
    inner, width, trans = x.axes[-1][0], b.choice([1, 3, 16, 17]), b.choice([0, 1])
    y = b.constant(b.array("float32", [width, inner] if trans else [inner, width], -1, 1))
    _node(b, "FusedMatMul", x, y, transB=trans, alpha=b.choice([1.0, 0.5]))


def quantized_elementwise(b: Builder) -> None:
    dtype, op = b.choice(BYTES), b.choice(["QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearConcat"])
    shape = [b.choice([1, 2, 3]), b.choice([1, 5, 16, 17])]
    x, y = _bytes(b, shape, dtype, True), _bytes(b, shape if b.chance(0.6) else shape[1:], dtype, b.chance(0.5))
    quantized = [[value, _scale(b), _zero(b, dtype)] for value in (x, y)]
    # A step of 1/4 at the least: of a finer one, nearly all results would be the largest number.
    result = [b.constant(np.array(b.choice([0.25, 0.5]), np.float32)), b.constant(np.array(2, dtype))]
    if op == "QLinearLeakyRelu":
        _node(b, op, *quantized[0], *result, alpha=0.5)
    elif op == "QLinearConcat":
        y = _bytes(b, [b.choice([1, 4]), shape[1]], dtype, True)
        _node(b, op, *result, *quantized[0], y, _scale(b), _zero(b, dtype), axis=0)
    else:
        _node(b, op, *quantized[0], *quantized[1], *result)


def quantized_products(b: Builder) -> None:
    inner, width = b.choice([1, 4, 16, 33]), b.choice([1, 3, 16, 17])
    kind = b.choice(["MatMulIntegerToFloat", "QGemm", "MatMulNBits"])
    if kind == "MatMulNBits":
        _four_bits(b)
        return
    x = _bytes(b, [b.choice([1, 2, 5]), inner], "uint8", True)
    y = _bytes(b, [inner, width], b.choice(BYTES))
    if kind == "MatMulIntegerToFloat":
        zeros = [_zero(b, "uint8"), _zero(b, y.dtype)] if b.chance(0.6) else []
        _node(b, kind, x, y, _scale(b), _scale(b), *zeros)
        return
    bias = b.constant(b.data.integers(-500, 500, width).astype(np.int32)) if b.chance(0.5) else None
    operands = [x, _scale(b), _zero(b, "uint8"), y, _scale(b), _zero(b, y.dtype), bias]
    final = [b.constant(np.array(4.0, np.float32)), b.constant(np.array(2, np.uint8))] if b.chance(0.7) else []
    _node(b, kind, *operands, *final)


def _four_bits(b: Builder) -> None:
    blocks, width = b.choice([1, 2]), b.choice([1, 3, 16])
    x = finite(b, [b.axis(), (32 * blocks,) * ASSIGNMENTS])
    packed = b.constant(b.data.integers(0, 256, (width, blocks, 16)).astype(np.uint8))
    scales = b.constant(b.array("float32", [width * blocks], 0.1, 1))
    _node(b, "MatMulNBits", x, packed, scales, K=32 * blocks, N=width, bits=4, block_size=32)


def heads(b: Builder) -> None:
    count, head = b.choice([1, 2, 4]), b.choice([4, 8, 16])
    batch, rows, keys = (b.choice([1, 2]),) * ASSIGNMENTS, b.axis(), b.axis()
    width = (count * head,) * ASSIGNMENTS
    q, k, v = (finite(b, [batch, length, width]) for length in (rows, keys, keys))
    if all(array.size for value in (q, k, v) for array in value.arrays):
        _node(b, "MultiHeadAttention", q, k, v, num_heads=count, **({"unidirectional": 1} if b.chance(0.2) else {}))


CONTRIB: list[Callable[[Builder], None]] = [
    activations, normalizations, fused_products, quantized_elementwise, quantized_products, heads,
]  # fmt: skip
