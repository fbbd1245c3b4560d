"""com.microsoft's QLinearAveragePool, QLinearGlobalAveragePool and QLinearSoftmax.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, tirx

from ..context import Context
from ..node import Node
from ..quantization import from_floats, requantize, saturated_total, zero_or
from ..registry import converter
from ..values import PrimExpr, Value, rank, symbolic, tensor_shape
from .broadcasting import elementwise
from .elementwise import subtract
from .pool import average_pool
from .quantized_conv import single
from .quantized_elementwise import DOMAIN, Quantized
from .shape import product
from .softmax import softmax_1, softmax_13


def _operand(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> tuple[Quantized, Value, Value]:
    """The input, in ONNX's order of dims, and the output's scale and zero point."""
    given: list[Any] = [*inputs, None][:5]
    data = _permuted(ctx, given[0], _to_first) if node.attr("channels_last", 0) else given[0]
    operand = Quantized(ctx, data, *given[1:3])
    return operand, single(ctx, given[3]), single(ctx, zero_or(given[4], operand.dtype))


def _permuted(ctx: Context, value: Value, order: Callable[[int], list[int]]) -> relax.Expr:
    return ctx.emit(relax.op.permute_dims(ctx.tensor(value), order(rank(value))))


def _to_first(dims: int) -> list[int]:
    return [0, dims - 1, *range(1, dims - 1)]


def _to_last(dims: int) -> list[int]:
    return [0, *range(2, dims), 1]


def _result(ctx: Context, node: Node, value: relax.Expr) -> relax.Expr:
    return _permuted(ctx, value, _to_last) if node.attr("channels_last", 0) else value


@converter("QLinearAveragePool", domain=DOMAIN)
def qlinear_average_pool(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """The mean of dequantized elements; the zero point is added before rounding."""
    data, scale, zero = _operand(ctx, node, inputs)
    means = average_pool(ctx, node, [data.real(ctx)])

    def scalar(x: PrimExpr, by: PrimExpr, offset: PrimExpr) -> PrimExpr:
        return saturated_total(x / by + offset.astype("float32"), data.dtype)

    return _result(ctx, node, elementwise(ctx, [means, scale, zero], scalar, None, "quantize"))


@converter("QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_global_average_pool(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """Exact integer sums, scaled once."""
    data, scale, zero = _operand(ctx, node, inputs)
    axes = list(range(2, rank(data.value)))
    count = symbolic(ctx.simplify(product(tensor_shape(data.value)[2:])))
    wide = ctx.emit(relax.op.astype(ctx.tensor(data.value), "int32"))
    offset = ctx.emit(relax.op.astype(ctx.tensor(data.zero), "int32"))
    sums = ctx.emit(relax.op.sum(subtract(ctx, wide, offset), axes, keepdims=True))
    factor = from_floats(ctx, lambda own, out, size: own / (out * size), data.scale, scale, count)
    return _result(ctx, node, requantize(ctx, sums, factor, zero))


@converter("QLinearSoftmax", domain=DOMAIN)
def qlinear_softmax(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    """Shares of the largest whole number of output steps in 1, as ONNX Runtime has it: floor(1 / scale).

    Where that makes ONNX Runtime's int8 results wrap around, they saturate here.
    """
    given: list[Any] = [*inputs, None][:5]
    data = Quantized(ctx, *given[:3])
    scale, zero = single(ctx, given[3]), single(ctx, zero_or(given[4], data.dtype))
    softmax = softmax_1 if node.attr("opset", 13) < 13 else softmax_13
    shares = softmax(ctx, node, [data.real(ctx)])

    def scalar(x: PrimExpr, by: PrimExpr, offset: PrimExpr) -> PrimExpr:
        steps = tirx.floor(tirx.const(1, "float32") / by)
        return saturated_total(tirx.nearbyint(x * steps) + offset.astype("float32"), data.dtype)

    return elementwise(ctx, [shares, scale, zero], scalar, None, "quantize")
