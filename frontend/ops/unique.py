"""Unique: https://onnx.ai/onnx/operators/onnx__Unique.html. How many there are is data: counted first, then a dim.

A stable merge sort of the positions puts equal slices beside each other, the earliest first. NaN equals NaN and comes
after every number, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .elementwise import is_nan
from .precision import cast_to, widened
from .shape import normalized_axes, product


@converter("Unique", since=11)
def unique(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    data, axis = inputs[0], node.attr("axis")
    if axis is None:
        data, axis = ctx.reshape(data, [ctx.simplify(product(tensor_shape(data)))]), 0
    dims = tensor_shape(data)
    (axis,) = normalized_axes([axis], len(dims))
    size = dims[axis]
    if never_has_elements([size]):
        return [data, *(zeros(ctx, [0], "int64") for _ in range(3))][: node.output_count]
    rows = [ctx.simplify(product(part)) for part in (dims[:axis], [size], dims[axis + 1 :])]
    comparable = cast_to(ctx, ctx.tensor(data), "uint8") if tensor_dtype(data) == "bool" else widened(ctx, data)
    values = ctx.reshape(comparable, rows)
    in_order = bool(node.attr("sorted", 1))
    grouped = ctx.te(lambda x: _Groups(x, in_order).kernel(), values, name="unique")
    places, counts, inverse, total = (ctx.emit(relax.TupleGetItem(grouped, i)) for i in range(4))
    (count,) = ctx.ints(total, "the number of different elements")
    ctx.analyzer.bind(count, tvm.ir.Range(0, 1 << 40))

    def first(x: te.Tensor, count: PrimExpr) -> te.Tensor:
        return te.compute((prim(count),), lambda i: x(i), name="first")

    def take(x: te.Tensor, places: te.Tensor) -> te.Tensor:
        shape = [*x.shape[:axis], places.shape[0], *x.shape[axis + 1 :]]
        last = prim(x.shape[axis]) - 1

        def element(*i: tirx.Var) -> PrimExpr:
            return x(*i[:axis], tirx.min(places(i[axis]), last), *i[axis + 1 :])

        return te.compute(prim_list(shape), element, name="take_unique")

    kept = ctx.te(first, places, count)
    results = [ctx.te(take, data, kept), kept, inverse, ctx.te(first, counts, count)]
    return results[: node.output_count]


@dataclass(frozen=True)
class _Groups:
    """Groups of equal slices of ``x`` [outer, size, inner] along the middle."""

    x: te.Tensor
    in_order: bool

    def kernel(self) -> list[te.Tensor]:
        """Per group its earliest slice and its size, per slice its group, how many groups; and scratch memory.

        Only the first so many entries of the former two are written.
        """
        size = prim(self.x.shape[1])

        def body(ins: Any, outs: Any) -> tirx.Stmt:
            buffers = [T.buffer_proxy(buffer) for buffer in (*ins, *outs)]
            with IRBuilder() as builder, T.seq_scope():
                self._emit(*buffers)
            return builder.get()

        shapes = [[size], [size], [size], [prim(1)], [size], [size]]
        return te.extern(shapes, [self.x], body, dtype=["int64"] * 6, name="unique")

    def _emit(self, x: Any, places: Any, counts: Any, inverse: Any, total: Any, order: Any, other: Any) -> None:
        size, compare = prim(self.x.shape[1]), self._comparison(x)
        _sort(order, other, size, compare)
        total[0] = prim(0)
        with T.serial(prim(0), size) as i:
            fresh = T.buffer_proxy(T.alloc_buffer((1,), "bool", scope="local"))
            fresh[0] = tirx.EQ(i, prim(0))
            with T.If(i > 0), T.Then():
                fresh[0] = tirx.NE(compare(order[i - 1], order[i]), prim(0))
            with T.If(fresh[0]), T.Then():
                places[total[0]] = order[i]
                counts[total[0]] = prim(0)
                total[0] = total[0] + 1
            counts[total[0] - 1] = counts[total[0] - 1] + 1
            inverse[order[i]] = total[0] - 1
        if not self.in_order:
            _by_appearance(places, counts, inverse, total, order, other, size)

    def _comparison(self, x: Any) -> Callable[[PrimExpr, PrimExpr], PrimExpr]:
        """Emits the comparison of two slices; gives -1, 0 or 1."""
        outer, size, inner = (prim(dim) for dim in self.x.shape)
        length = outer * inner

        def compare(left: PrimExpr, right: PrimExpr) -> PrimExpr:
            left, right = T.bind(left), T.bind(right)
            verdict = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
            at = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
            verdict[0] = prim(0)
            at[0] = prim(0)
            with T.While(tirx.all(tirx.EQ(verdict[0], prim(0)), at[0] < length)):
                base = T.bind(tirx.truncdiv(at[0], inner) * size * inner + tirx.truncmod(at[0], inner))
                a, b = (T.bind(x[base + place * inner]) for place in (left, right))
                verdict[0] = tirx.Select(_before(a, b), prim(-1), tirx.Select(_before(b, a), prim(1), prim(0)))
                at[0] = at[0] + 1
            return verdict[0]

        return compare


def _before(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return tirx.any(tirx.LT(a, b), tirx.all(is_nan(b), tirx.Not(is_nan(a))))


def _sort(order: Any, merged: Any, size: PrimExpr, compare: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> None:
    """Sort the positions 0 to ``size``, bottom up; equal ones keep their order."""
    width, low, left, right = (T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local")) for _ in range(4))
    with T.serial(prim(0), size) as i:
        order[i] = i
    width[0] = prim(1)
    with T.While(width[0] < size):
        low[0] = prim(0)
        with T.While(low[0] < size):
            middle = T.bind(tirx.min(low[0] + width[0], size))
            high = T.bind(tirx.min(middle + width[0], size))
            left[0], right[0] = low[0], middle
            with T.serial(low[0], high) as i:
                from_right = T.buffer_proxy(T.alloc_buffer((1,), "bool", scope="local"))
                from_right[0] = left[0] >= middle
                with T.If(tirx.all(left[0] < middle, right[0] < high)), T.Then():
                    from_right[0] = compare(order[right[0]], order[left[0]]) < 0
                with T.If(from_right[0]):
                    with T.Then():
                        merged[i] = order[right[0]]
                        right[0] = right[0] + 1
                    with T.Else():
                        merged[i] = order[left[0]]
                        left[0] = left[0] + 1
            low[0] = high
        with T.serial(prim(0), size) as i:
            order[i] = merged[i]
        width[0] = 2 * width[0]


def _by_appearance(places: Any, counts: Any, inverse: Any, total: Any, order: Any, other: Any, size: PrimExpr) -> None:
    """Number the groups anew, by where they appear first. ``order`` and ``other`` are scratch memory."""
    found = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
    found[0] = prim(0)
    with T.serial(prim(0), total[0]) as group:
        other[group] = counts[group]
    with T.serial(prim(0), size) as i:
        group = T.bind(inverse[i])
        with T.If(tirx.EQ(places[group], i)), T.Then():
            order[group] = found[0]
            counts[found[0]] = other[group]
            found[0] = found[0] + 1
        inverse[i] = order[group]
    found[0] = prim(0)
    with T.serial(prim(0), size) as i, T.If(tirx.EQ(inverse[i], found[0])), T.Then():
        places[found[0]] = i
        found[0] = found[0] + 1
