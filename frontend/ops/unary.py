"""Operators of one tensor, element by element: Abs, Neg, Exp, Sqrt, Erf, Round, Sign, IsNaN, the trigonometric ones.

https://onnx.ai/onnx/operators/onnx__Abs.html and siblings. 16-bit floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, tensor_dtype
from .elementwise import divide, is_integer, is_nan
from .precision import in_float32
from .wrapping import negated

_RELAX: dict[str, Any] = {
    "Exp": relax.op.exp,
    "Log": relax.op.log,
    "Sqrt": relax.op.sqrt,
    "Erf": relax.op.erf,
    "Tanh": relax.op.tanh,
    "Sigmoid": relax.op.sigmoid,
    "Floor": relax.op.floor,
    "Ceil": relax.op.ceil,
    "Round": relax.op.round,
    "Sin": relax.op.sin,
    "Cos": relax.op.cos,
    "Tan": relax.op.tan,
    "Asin": relax.op.asin,
    "Acos": relax.op.acos,
    "Atan": relax.op.atan,
    "Asinh": relax.op.asinh,
    "Acosh": relax.op.acosh,
    "Atanh": relax.op.atanh,
}


def map_elements(ctx: Context, value: Value, scalar: Callable[[PrimExpr], PrimExpr], name: str) -> relax.Expr:
    """``scalar`` of every element as a kernel of our own."""

    def kernel(data: te.Tensor) -> te.Tensor:
        return te.compute(data.shape, lambda *index: scalar(data(*index)), name=name)

    return ctx.te(kernel, value, name=name)


def _convert(function: Any) -> Callable[..., Value]:
    def convert(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
        return in_float32(ctx, inputs[0], lambda x: ctx.emit(function(x)))

    return convert


for _op_type, _function in _RELAX.items():
    converter(_op_type)(_convert(_function))


@converter("Sinh", "Cosh")
def hyperbolic(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """In float64 from exp: there is no vector code for TVM's own."""
    if tensor_dtype(inputs[0]) == "float64":
        return map_elements(ctx, inputs[0], _sinh64 if node.op_type == "Sinh" else _cosh64, node.op_type.lower())
    operation = relax.op.sinh if node.op_type == "Sinh" else relax.op.cosh
    return in_float32(ctx, inputs[0], lambda x: ctx.emit(operation(x)))


def _cosh64(x: PrimExpr) -> PrimExpr:
    half = tirx.const(0.5, "float64")
    power = tirx.exp(x)
    return power * half + half / power


def _sinh64(x: PrimExpr) -> PrimExpr:
    """Near 0 the exponentials cancel; there Taylor's series to x**13 is exact to the last bit."""
    half, square = tirx.const(0.5, "float64"), x * x
    power = tirx.exp(x)
    series = tirx.const(1.0, "float64")
    for n in (12, 10, 8, 6, 4, 2):
        series = series * square / tirx.const(float(n * (n + 1)), "float64") + tirx.const(1.0, "float64")
    near = tirx.And(x < tirx.const(0.3, "float64"), x > tirx.const(-0.3, "float64"))
    return tirx.Select(near, x * series, power * half - half / power)


@converter("Abs")
def absolute(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    dtype = tensor_dtype(inputs[0])
    if dtype.startswith("uint"):
        return inputs[0]
    if is_integer(dtype):
        return map_elements(
            ctx, inputs[0], lambda x: tirx.Select(tirx.LT(x, tirx.const(0, dtype)), negated(x), x), "abs"
        )
    return ctx.emit(relax.op.abs(ctx.tensor(inputs[0])))


@converter("Neg")
def negative(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    if is_integer(tensor_dtype(inputs[0])):
        return map_elements(ctx, inputs[0], negated, "negative")
    return ctx.emit(relax.op.negative(ctx.tensor(inputs[0])))


@converter("Reciprocal")
def reciprocal(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return in_float32(ctx, inputs[0], lambda x: divide(ctx, np.array(1, tensor_dtype(x)), x))


@converter("Sign")
def sign(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    dtype = tensor_dtype(inputs[0])
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)

    def scalar(x: PrimExpr) -> PrimExpr:
        """What is neither above nor below 0 is 0 or NaN, and stays."""
        below = x if dtype.startswith("uint") else tirx.Select(tirx.LT(x, zero), tirx.const(-1, dtype), x)
        return tirx.Select(tirx.GT(x, zero), one, below)

    return map_elements(ctx, inputs[0], scalar, "sign")


@converter("IsNaN")
def convert_is_nan(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    if tensor_dtype(inputs[0]) == "float32":
        return ctx.emit(relax.op.isnan(ctx.tensor(inputs[0])))  # an operator that passes know
    return map_elements(ctx, inputs[0], is_nan, "is_nan")


@converter("IsInf")
def is_inf(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    dtype = tensor_dtype(inputs[0])
    wide = "float64" if dtype == "float64" else "float32"
    infinities = [np.inf] * bool(node.attr("detect_positive", 1)) + [-np.inf] * bool(node.attr("detect_negative", 1))

    def scalar(x: PrimExpr) -> PrimExpr:
        found: PrimExpr = tirx.const(False, "bool")
        for infinity in infinities:
            found = tirx.Or(found, tirx.EQ(x.astype(wide), tirx.const(infinity, wide)))
        return found

    return map_elements(ctx, inputs[0], scalar, "is_inf")
