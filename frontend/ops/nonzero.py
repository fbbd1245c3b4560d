"""NonZero and Compress: how many elements they give is data. It is counted first; the count then is a dim.

https://onnx.ai/onnx/operators/onnx__NonZero.html, https://onnx.ai/onnx/operators/onnx__Compress.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import minimum, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .elementwise import is_nan
from .empty import filled_if_empty
from .shape import normalized_axes, product


@converter("NonZero")
def nonzero(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    data = inputs[0]
    dims = tensor_shape(data)
    rank = max(len(dims), 1)
    flat = ctx.reshape(data, [ctx.simplify(product(dims))])
    places = _true_places(ctx, flat, tensor_shape(flat)[0])

    def unflatten(places: te.Tensor, dims: list) -> te.Tensor:
        def element(axis: tirx.Var, i: tirx.Var) -> PrimExpr:
            rest, result = places(i), prim(0)
            for k in reversed(range(len(dims))):
                size = tirx.max(prim(dims[k]), prim(1))
                result = tirx.Select(axis == k, tirx.truncmod(rest, size), result)
                rest = tirx.truncdiv(rest, size)
            return result

        return te.compute((prim(rank), places.shape[0]), element, name="nonzero")

    return ctx.te(unflatten, places, list(dims), name="nonzero")


@converter("Compress")
def compress(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, condition = inputs
    axis = node.attr("axis")
    if axis is None:
        data, axis = ctx.reshape(data, [ctx.simplify(product(tensor_shape(data)))]), 0
    dims = tensor_shape(data)
    (axis,) = normalized_axes([axis], len(dims))
    if len(tensor_shape(condition)) != 1:
        raise ConversionError(f"the condition must be a vector, found shape {list(tensor_shape(condition))}")
    limit = ctx.simplify(minimum(tensor_shape(condition)[0], dims[axis]))
    places = _true_places(ctx, condition, limit)

    def compress(x: te.Tensor, places: te.Tensor) -> te.Tensor:
        shape = [*x.shape[:axis], places.shape[0], *x.shape[axis + 1 :]]
        return te.compute(prim_list(shape), lambda *i: x(*i[:axis], places(i[axis]), *i[axis + 1 :]), name="compress")

    return ctx.te(compress, ctx.tensor(data), places)


def _true_places(ctx: Context, vector: Value, limit: PrimExpr) -> Value:
    """The positions, below ``limit``, of a vector's elements that are not 0; their number is a fresh dim."""
    if never_has_elements([limit]):
        return zeros(ctx, [0], "int64")
    tensor, dtype = ctx.tensor(vector), tensor_dtype(vector)

    def holds(value: PrimExpr) -> PrimExpr:
        if dtype == "bool":
            return value
        return tirx.Or(tirx.NE(value, tirx.const(0, dtype)), is_nan(value))  # TVM's NE is false for NaN

    def count_true(x: te.Tensor, limit: PrimExpr) -> te.Tensor:
        k = te.reduce_axis((prim(0), prim(limit)), "k")
        return te.compute(
            (prim(1),), lambda _: te.sum(tirx.Select(holds(x(k)), prim(1), prim(0)), axis=[k]), name="count_true"
        )

    counted = filled_if_empty(ctx, ctx.te(count_true, tensor, limit), [limit], lambda dtype: tirx.const(0, dtype))
    (count,) = ctx.ints(counted, "the number of elements")
    ctx.analyzer.bind(count, tvm.ir.Range(0, 1 << 40))

    def true_places(x: te.Tensor, limit: PrimExpr, count: PrimExpr) -> te.Tensor:
        def body(ins: Any, outs: Any) -> tirx.Stmt:
            with IRBuilder() as builder, T.seq_scope():
                values, places = T.buffer_proxy(ins[0]), T.buffer_proxy(outs[0])
                found = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
                found[0] = prim(0)
                with T.serial(prim(0), prim(limit)) as i, T.If(holds(values[i])), T.Then():
                    places[found[0]] = i
                    found[0] = found[0] + 1
            return builder.get()

        return te.extern([prim_list([count])], [x], body, dtype=["int64"], name="true_places")

    return ctx.te(true_places, tensor, limit, count)
