"""ScatterElements and ScatterND: https://onnx.ai/onnx/operators/onnx__ScatterElements.html and siblings.

Updates are applied in order, so that of several to one place the last counts. Indices are treated as in Gather:
negative ones count from the end, those out of range are clamped, so that no data can make the code write out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .gather import index_depth, inside, known_indices, refuse_empty, require
from .shape import normalized_axes, product

_REDUCTIONS: dict[str, Callable[[PrimExpr, PrimExpr], PrimExpr]] = {
    "none": lambda _old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": tirx.max,
    "min": tirx.min,
}


@converter("ScatterElements", "Scatter")
def scatter_elements(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, indices, updates = inputs
    dims, counts = tensor_shape(data), tensor_shape(indices)
    if len(dims) != len(counts) or len(dims) != len(tensor_shape(updates)):
        ranks = [len(tensor_shape(value)) for value in inputs]
        raise ConversionError(f"data, indices and updates must have one rank, found {ranks}")
    (axis,) = normalized_axes([node.attr("axis", 0)], len(dims))
    known_indices(indices, dims[axis])
    refuse_empty(ctx, dims[axis], counts)
    for i, (a, b) in enumerate(zip(counts, tensor_shape(updates), strict=True)):
        same_dim(ctx, [a, b], f"indices and updates along axis {i}")
        if i != axis:
            require(ctx, a, dims[i], f"indices along axis {i}")
    combine = _combine(node, data)

    def write(sizes: list, shape: list, places: Any, values: Any, out: Any) -> None:
        # Places may repeat along the axis alone, so any other loop may run in parallel.
        order = sorted(range(len(shape)), key=lambda i: i == axis)
        at: list[PrimExpr] = [prim(0)] * len(shape)
        with ExitStack() as loops:
            for depth, i in enumerate(order):
                loop = T.parallel if depth == 0 and i != axis else T.serial
                at[i] = loops.enter_context(loop(prim(0), prim(shape[i])))
            update = T.bind(_flat(shape, at))
            place = T.bind(inside(places[update], sizes[axis]))
            target = T.bind(_flat(sizes, [*at[:axis], place, *at[axis + 1 :]]))
            out[target] = combine(out[target], values[update])

    return _emit(ctx, "scatter_elements", data, indices, updates, write)


@converter("ScatterND")
def scatter_nd(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, indices, updates = inputs
    dims, where = tensor_shape(data), tensor_shape(indices)
    depth = index_depth(where, len(dims))
    for size in dims[:depth]:
        refuse_empty(ctx, size, where[:-1])
    expected = [*where[:-1], *dims[depth:]]
    if len(tensor_shape(updates)) != len(expected):
        raise ConversionError(f"updates have shape {list(tensor_shape(updates))}, {expected} is needed")
    for i, (a, b) in enumerate(zip(expected, tensor_shape(updates), strict=True)):
        same_dim(ctx, [a, b], f"what is updated and updates along axis {i}")
    combine = _combine(node, data)

    def write(sizes: list, shape: list, places: Any, values: Any, out: Any) -> None:
        length = prim(product(sizes[depth:]))
        with T.serial(prim(0), prim(product(shape[:-1]))) as row:
            start = prim(0)
            for k in range(depth):
                start = T.bind(start * prim(sizes[k]) + inside(places[row * depth + k], sizes[k]))
            with T.serial(prim(0), length) as i:
                target = T.bind(start * length + i)
                out[target] = combine(out[target], values[row * length + i])

    return _emit(ctx, "scatter_nd", data, indices, updates, write)


def _combine(node: Node, data: Value) -> Callable[[PrimExpr, PrimExpr], PrimExpr]:
    name = node.attr("reduction", "none")
    if name not in _REDUCTIONS:
        raise ConversionError(f"reduction {name!r} is none of {', '.join(_REDUCTIONS)}")
    if name != "none" and tensor_dtype(data) == "bool":
        raise ConversionError(f"reduction {name!r} of bools is not supported")
    return _REDUCTIONS[name]


def _flat(sizes: Sequence[PrimExpr], at: Sequence[PrimExpr]) -> PrimExpr:
    flat = prim(0)
    for size, place in zip(sizes, at, strict=True):
        flat = flat * prim(size) + place
    return flat


def _emit(ctx: Context, name: str, data: Value, indices: Value, updates: Value, write: Callable[..., None]) -> Value:
    """A copy of the data, on which ``write`` works in place. All buffers are seen as flat."""
    if never_has_elements(tensor_shape(data)) or never_has_elements(tensor_shape(updates)):
        return data

    def scatter(x: te.Tensor, places: te.Tensor, values: te.Tensor) -> te.Tensor:
        def body(ins: Any, outs: Any) -> tirx.Stmt:
            source, where, new, out = (T.buffer_proxy(buffer) for buffer in (*ins, outs[0]))
            with IRBuilder() as builder, T.seq_scope():
                with T.parallel(prim(0), prim(product(x.shape))) as i:
                    out[i] = source[i]
                write(list(x.shape), list(places.shape), where, new, out)
            return builder.get()

        return te.extern([x.shape], [x, places, values], body, dtype=[str(x.dtype)], name=name)

    return ctx.te(scatter, ctx.tensor(data), ctx.tensor(indices), ctx.tensor(updates), name=name)
