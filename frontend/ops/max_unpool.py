"""MaxUnpool: https://onnx.ai/onnx/operators/onnx__MaxUnpool.html.

Indices count through the whole output without padding; those out of range are left out, so that no data can make the
code write out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import Value, tensor_dtype, tensor_shape
from ..windows import attribute
from .pad import Border, pad
from .shape import product


@converter("MaxUnpool", since=9)
def max_unpool(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, indices, wanted = [*inputs, None][:3]
    assert data is not None and indices is not None
    dims, count = tensor_shape(data), len(tensor_shape(data)) - 2
    kernel = node.attr("kernel_shape")
    if count < 1 or len(kernel) != count or len(tensor_shape(indices)) != len(dims):
        raise ConversionError(f"kernel {kernel} and indices of rank {len(tensor_shape(indices))} for dims {list(dims)}")
    for i, (a, b) in enumerate(zip(dims, tensor_shape(indices), strict=True)):
        same_dim(ctx, [a, b], f"data and indices along axis {i}")
    strides, pads = attribute(node, "strides", count, 1), attribute(node, "pads", 2 * count, 0)
    shape = list(dims[:2])
    for i in range(count):
        shape.append(ctx.simplify((dims[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[count + i]))
    result = _scattered(ctx, data, indices, shape)
    return result if wanted is None else _with_shape(ctx, result, ctx.ints(wanted, "output_shape"))


def _scattered(ctx: Context, data: Value, indices: Value, shape: list) -> Value:
    if never_has_elements(shape) or never_has_elements(tensor_shape(data)):
        return zeros(ctx, shape, tensor_dtype(data))

    def kernel(x: te.Tensor, places: te.Tensor, shape: list) -> te.Tensor:
        size, count = prim(product(prim_list(shape))), prim(product(x.shape))
        zero = tirx.const(0, str(x.dtype))

        def body(ins: Any, outs: Any) -> tirx.Stmt:
            values, where, out = (T.buffer_proxy(buffer) for buffer in (*ins, outs[0]))
            with IRBuilder() as builder, T.seq_scope():
                with T.serial(prim(0), size) as i:
                    out[i] = zero
                with T.serial(prim(0), count) as i:
                    place = T.bind(where[i].astype("int64"))
                    with T.If(tirx.all(place >= 0, place < size)), T.Then():
                        out[place] = values[i]
            return builder.get()

        return te.extern([prim_list(shape)], [x, places], body, dtype=[str(x.dtype)], name="max_unpool")

    return ctx.te(kernel, data, indices, shape, name="max_unpool")


def _with_shape(ctx: Context, value: Value, wanted: Sequence[Any]) -> Value:
    """``output_shape`` only says how many zeros follow: indices refer to the inferred shape, as in ONNX's evaluator."""
    dims = tensor_shape(value)
    if len(wanted) != len(dims):
        raise ConversionError(f"output_shape has {len(wanted)} sizes for a tensor of rank {len(dims)}")
    borders = {}
    for axis, (size, dim) in enumerate(zip(wanted, dims, strict=True)):
        after = ctx.simplify(size - dim)
        ctx.check(prim(after) >= 0)
        borders[axis] = Border(0, after)
    return pad(ctx, value, borders)
