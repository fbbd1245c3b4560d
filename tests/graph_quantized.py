"""Random quantized nodes, and operators over the number types that models rarely have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx.helper as oh
from graph_nodes import an_axis, exact, picture
from graphs import ASSIGNMENTS, Array, Builder, Value

BYTES = ("uint8", "int8")
WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def _scale(b: Builder, shape: tuple[int, ...] = ()) -> Value:
    # Powers of two: the quotient is exact, and no rounding can fall to either side.
    return b.constant(np.float32(2.0) ** b.data.integers(-5, 0, shape).astype(np.float32))


def _zero(b: Builder, dtype: str, shape: tuple[int, ...] = ()) -> Value:
    return b.constant(b.array(dtype, shape, -5, 5))


def _even_zero(b: Builder, dtype: str) -> Value:
    """Of a result: the evaluator adds it before rounding a half to even, ONNX Runtime after."""
    return b.constant(b.array(dtype, (), -2, 2) * np.array(2, dtype))


def _full_range(b: Builder, shape: Sequence[int], dtype: str) -> Array:
    limits = np.iinfo(dtype)
    return b.data.integers(limits.min, limits.max + 1, shape).astype(dtype)


def _bytes(b: Builder, shape: list[int], dtype: str, run_time: bool = False) -> Value:
    arrays = [_full_range(b, shape, dtype) for _ in range(ASSIGNMENTS)]
    if not run_time:
        return b.constant(arrays[0])
    value = b.input(dtype, [(n,) * ASSIGNMENTS for n in shape])
    value.arrays[:] = arrays
    return value


def quantize(b: Builder) -> None:
    x = b.operand(("float32",), (1, 2, 3, 4), accept=lambda v: exact(v) and all(np.isfinite(a).all() for a in v.arrays))
    if x is None:
        return
    if b.chance(0.3):
        made = b.node("DynamicQuantizeLinear", x, outputs=3) if all(a.size for a in x.arrays) else []
        if made:
            b.node("DequantizeLinear", *made)
        return
    dtype = b.choice([*BYTES, "int16", "uint16"]) if b.chance(0.2) else b.choice(BYTES)
    axis = an_axis(b, x)
    shape = (x.axes[axis][0],) if b.chance(0.4) and x.fixed(axis) else ()
    scale, zero = _scale(b, shape), _zero(b, dtype, shape)
    extra = {"axis": axis} if shape else {}
    made = b.node("QuantizeLinear", x, scale, zero, **extra)
    if made and b.chance(0.7):
        b.node("DequantizeLinear", made[0], scale, zero, moves=True, **extra)


def dequantize(b: Builder) -> None:
    x = b.operand((*BYTES, "int32"), (1, 2, 3))
    if x is not None:
        b.node("DequantizeLinear", x, _scale(b), *([_zero(b, x.dtype)] if x.dtype != "int32" and b.chance(0.6) else []))


def quantized_matmul(b: Builder) -> None:
    left, right = b.choice(BYTES), b.choice(BYTES)
    rows, inner, width = b.axis(0.4), b.size(), b.choice([1, 3, 16, 17, 33])
    batch = [b.axis(0.3)] if b.chance(0.3) else []
    x = b.input(left, [*batch, rows, (inner,) * ASSIGNMENTS])
    x.arrays[:] = [_full_range(b, a.shape, left) for a in x.arrays]
    y = _bytes(b, [inner, width], right, b.chance(0.3))
    if b.chance(0.5):
        b.node("MatMulInteger", x, y, *([_zero(b, left), _zero(b, right)] if b.chance(0.6) else []))
        return
    out = b.choice(BYTES)
    each = (width,) if b.chance(0.3) else ()
    operands = [x, _scale(b), _zero(b, left), y, _scale(b, each), _zero(b, right, each)]
    b.node("QLinearMatMul", *operands, _scale(b), _even_zero(b, out))


def quantized_conv(b: Builder) -> None:
    data = b.choice(BYTES)
    channels, kernel = b.choice([1, 2, 3, 4, 8, 16]), b.choice([1, 3])
    sides = [b.choice([3, 5, 8, 9]), b.choice([3, 4, 7])]
    groups = b.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
    out = groups * b.choice([1, 2, 5, 16])
    x = b.input(data, [b.axis(0.3), (channels,) * ASSIGNMENTS, *[(n,) * ASSIGNMENTS for n in sides]])
    x.arrays[:] = [_full_range(b, a.shape, data) for a in x.arrays]
    integer = b.chance(0.4)
    weights = data if b.chance(0.3) else b.choice(BYTES)
    w = _bytes(b, [out, channels // groups, kernel, kernel], weights)
    window = {"kernel_shape": [kernel] * 2, "group": groups, "pads": [b.choice([0, kernel // 2])] * 4,
              "strides": [b.choice([1, 2])] * 2}  # fmt: skip
    if integer:
        zeros = [_zero(b, data), _zero(b, weights)][: b.choice([0, 1, 2])]
        b.node("ConvInteger", x, w, *zeros, **window)
        return
    each = (out,) if b.chance(0.5) else ()
    zero = b.constant(np.zeros(each, weights)) if weights == "int8" else _zero(b, weights, each)
    bias = [b.constant(b.data.integers(-500, 500, out).astype(np.int32))] if b.chance(0.5) else []
    final, scale = b.choice(BYTES), b.constant(np.array(b.choice([4.0, 16.0, 64.0]), np.float32))
    b.node("QLinearConv", x, _scale(b), _zero(b, data), w, _scale(b, each), zero,
           scale, _even_zero(b, final), *bias, **window)  # fmt: skip


def rare_integers(b: Builder) -> None:
    """Arithmetic that wraps, bits, shifts, comparisons, in all eight whole types."""
    kind = b.choice(["arithmetic", "arithmetic", "bits", "shift", "compare", "matmul"])
    types = {"shift": ("uint8", "uint16", "uint32", "uint64"), "arithmetic": WHOLE, "matmul": WHOLE[4:]}
    x = b.operand(types.get(kind, WHOLE))
    if x is None:
        return
    if kind == "shift":
        amount = b.constant(np.array(b.choice([0, 1, 3, 7]), x.dtype))
        b.node("BitShift", x, amount, direction=b.choice(["LEFT", "RIGHT"]))
    elif kind == "bits":
        b.node(b.choice(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), x, b.partner(x))
    elif kind == "compare":
        b.node(b.choice(["Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"]), x, b.partner(x))
    elif kind == "matmul" and x.rank >= 2:
        b.node("MatMul", x, b.input(x.dtype, [x.axes[-1], b.axis(0.2)]))
    else:
        op = b.choice(["Add", "Sub", "Mul", "Max", "Min", "Div", "Mod"])
        y = b.partner(x) if op not in ("Div", "Mod") else b.constant(np.array(b.choice([1, 3, 7]), x.dtype))
        b.node(op, x, y)


def bfloats(b: Builder) -> None:
    """bfloat16 between two casts: each operator alone, as two that round could be told apart from one that does not."""
    x = b.operand(("float32",), accept=exact)
    low = b.node("Cast", x, to=oh.onnx.TensorProto.BFLOAT16) if x is not None else []
    if not low:
        return
    op = b.choice(["Add", "Mul", "Sub", "Max", "Neg", "Relu", "Abs", "Transpose", "none"])
    made = low
    if op in ("Add", "Mul", "Sub", "Max"):
        made = b.node(op, low[0], low[0])
    elif op != "none":
        made = b.node(op, low[0], moves=True)
    if made:
        b.node("Cast", made[0], to=oh.onnx.TensorProto.FLOAT, moves=True)


def halves(b: Builder) -> None:
    """float16 through the kernels that usually see float32."""
    kind = b.choice(["unary", "reduce", "matmul", "conv", "softmax", "pool"])
    if kind in ("conv", "pool"):
        x = picture(b, 2)
        x = (b.node("Cast", x, to=oh.onnx.TensorProto.FLOAT16) or [None])[0] if x.exact else None
    else:
        x = b.operand(("float16",), (1, 2, 3), accept=exact)
    if x is None:
        return
    if kind == "unary":
        b.node(b.choice(["Sigmoid", "Tanh", "Exp", "Erf", "Sqrt", "Softplus", "HardSwish", "Gelu"]), x)
    elif kind == "reduce":
        b.node(b.choice(["ReduceMax", "ReduceMin", "ReduceMean"]), x, b.ints(an_axis(b, x)), keepdims=b.choice([0, 1]))
    elif kind == "softmax":
        b.node("Softmax", x, axis=an_axis(b, x))
    elif kind == "pool":
        b.node("MaxPool", x, kernel_shape=[1, 1] if min(min(a) for a in x.axes[2:]) < 2 else [2, 2], moves=True)
    elif kind == "matmul" and x.rank >= 2 and x.fixed(x.rank - 1) and x.axes[-1][0] <= 8:
        b.node("MatMul", x, b.constant(_few_bits(b, [x.axes[-1][0], b.choice([1, 5, 16, 17])])))
    elif kind == "conv" and x.axes[1][0] <= 8:
        b.node("Conv", x, b.constant(_few_bits(b, [b.choice([1, 5, 16]), x.axes[1][0], 1, 1])), kernel_shape=[1, 1])


def _few_bits(b: Builder, shape: list[int]) -> Array:
    return (b.data.integers(0, 5, shape) / 4).astype(np.float16)


QUANTIZED: list[Callable[[Builder], None]] = [
    quantize, quantize, dequantize, quantized_matmul, quantized_conv, rare_integers, rare_integers, bfloats, halves,
]  # fmt: skip
