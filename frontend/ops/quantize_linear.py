"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html.

One scale per tensor, per place of an axis, or per block of an axis. The com.microsoft forms mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from tvm import relax, tirx

from ..context import Context
from ..node import Node
from ..quantization import LIMITS, dequantize, fitted, quantize, refuse_other_types, saturated, with_places, zero_or
from ..registry import converter
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .broadcasting import elementwise
from .cast import convert_dtype
from .elementwise import numpy_type
from .precision import FLOATS

INTEGERS = (*LIMITS, "int32")


def _type(node: Node, name: str) -> str | None:
    """NumPy's name of the type that an attribute asks for; None where it is absent or 0."""
    wanted = node.attr(name, 0)
    if not wanted:
        return None
    data_type = ir.DataType[wanted] if isinstance(wanted, str) else ir.DataType(wanted)
    return data_type.numpy().name


def _parameters(ctx: Context, node: Node, data: Value, scale: Value, zero: Value) -> list[Value]:
    """The data, and scale and zero point as they broadcast to it."""
    axis, block = node.attr("axis", 1), node.attr("block_size", 0)
    if not block:
        data = with_places(ctx, data, axis, scale)
    return [data, *(fitted(ctx, parameter, tensor_shape(data), axis, block) for parameter in (scale, zero))]


@converter("QuantizeLinear", since=10)
@converter("QuantizeLinear", domain="com.microsoft")
def quantize_linear(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """``saturate`` concerns the float8 types alone: integers always saturate."""
    data, scale, zero = [*inputs, None][:3]
    assert data is not None and scale is not None
    refuse_other_types(tensor_dtype(data), (*FLOATS, "int32"), "quantizing a tensor")
    dtype = tensor_dtype(zero) if zero is not None else _type(node, "output_dtype") or "uint8"
    refuse_other_types(dtype, tuple(LIMITS), "a quantized tensor")
    data, scale, zero = _parameters(ctx, node, data, scale, zero_or(zero, dtype))
    return quantize(ctx, data, scale, zero, _type(node, "precision") or tensor_dtype(scale))


@converter("DequantizeLinear", since=10)
@converter("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, scale, zero = [*inputs, None][:3]
    assert data is not None and scale is not None
    refuse_other_types(tensor_dtype(data), INTEGERS, "a quantized tensor")
    dtype = _type(node, "output_dtype") or tensor_dtype(scale)
    refuse_other_types(dtype, FLOATS, "dequantizing to a tensor")
    data, scale, zero = _parameters(ctx, node, data, scale, zero_or(zero, tensor_dtype(data)))
    real = dequantize(ctx, data, scale, zero)
    if isinstance(real, np.ndarray):
        return real.astype(numpy_type(dtype))
    return convert_dtype(ctx, real, dtype)


@converter("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: Context, _node: Node, inputs: Sequence[Value]) -> list[Value]:
    quantized, scale, zero = dynamically_quantized(ctx, inputs[0])
    return [quantized, scale, zero]


def dynamically_quantized(ctx: Context, data: Value) -> tuple[relax.Expr, relax.Expr, relax.Expr]:
    """(the tensor as uint8, its scale, its zero point) over the range that its elements and 0 span.

    A tensor of zeros alone has the scale 1, as in ONNX Runtime.
    """
    x = ctx.tensor(data)
    axes = list(range(len(tensor_shape(data))))
    ends = [ctx.emit(reduce(x, axes, False)) for reduce in (relax.op.min, relax.op.max)]

    def scale_of(least: PrimExpr, most: PrimExpr) -> PrimExpr:
        low, high = _with_zero(least, most)
        spread = (high - low) / tirx.const(255, "float32")
        return tirx.Select(tirx.EQ(high, low), tirx.const(1, "float32"), spread)

    def zero_of(least: PrimExpr, most: PrimExpr) -> PrimExpr:
        low, _ = _with_zero(least, most)
        return saturated(tirx.const(0, "float32") - low / scale_of(least, most), tirx.const(0, "int32"), "uint8")

    scale, zero = (elementwise(ctx, ends, scalar, None, "range") for scalar in (scale_of, zero_of))
    return quantize(ctx, data, scale, zero), scale, zero


def _with_zero(least: PrimExpr, most: PrimExpr) -> tuple[PrimExpr, PrimExpr]:
    zero = tirx.const(0, "float32")
    return tirx.min(least, zero), tirx.max(most, zero)
