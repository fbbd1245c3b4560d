"""Softmax, LogSoftmax, Hardmax. https://onnx.ai/onnx/operators/onnx__Softmax.html

Before opset 13 all dims from ``axis`` on were flattened and normalised together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from ..context import Context
from ..node import Node
from ..registry import Converter, converter
from ..values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape
from .arg_reduce import arg_reduce
from .precision import in_float32
from .shape import normalized_axes, product

Normalizer = Callable[[Context, relax.Expr, int], relax.Expr]


def _relax(operation: Any) -> Normalizer:
    return lambda ctx, x, axis: ctx.emit(operation(x, axis))


def _hardmax(ctx: Context, x: relax.Expr, axis: int) -> relax.Expr:
    """1 at the first largest element along ``axis``, else 0."""
    dtype = tensor_dtype(x)
    place = arg_reduce(ctx, x, axis, keepdims=False, may_be_empty=True)

    def one_hot(data: te.Tensor, index: te.Tensor) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            here = index(*i[:axis], *i[axis + 1 :])
            return tirx.Select(tirx.EQ(here, i[axis].astype("int64")), tirx.const(1, dtype), tirx.const(0, dtype))

        return te.compute(data.shape, element, name="hardmax")

    return ctx.te(one_hot, x, place, name="hardmax")


def _flattened(normalize: Normalizer, ctx: Context, x: relax.Expr, axis: int) -> relax.Expr:
    """The old definition, without a reshape where the flattened dims are the last one and dims of 1."""
    dims = tensor_shape(x)
    if all(as_int(dim) == 1 for dim in dims[axis + 1 :]):
        return normalize(ctx, x, axis)
    matrix = ctx.reshape(x, [ctx.simplify(product(dims[:axis])), ctx.simplify(product(dims[axis:]))])
    return ctx.reshape(normalize(ctx, ctx.tensor(matrix), 1), dims)


def _register(op_type: str, normalize: Normalizer) -> tuple[Converter, Converter]:
    def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
        (axis,) = normalized_axes([node.attr("axis", -1)], rank(inputs[0]))
        return in_float32(ctx, inputs[0], lambda x: normalize(ctx, x, axis))

    def convert_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
        dims = rank(inputs[0])
        axis = node.attr("axis", 1)
        axis = axis + dims if axis < 0 else axis
        return in_float32(ctx, inputs[0], lambda x: _flattened(normalize, ctx, x, axis))

    return converter(op_type, since=13)(convert), converter(op_type, since=1)(convert_1)


softmax_13, softmax_1 = _register("Softmax", _relax(relax.op.nn.softmax))
_register("LogSoftmax", _relax(relax.op.nn.log_softmax))
_register("Hardmax", _hardmax)
