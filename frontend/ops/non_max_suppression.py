"""NonMaxSuppression: https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html.

Boxes are taken in the order of their scores; one that overlaps a box already taken too much is dropped. How many are
left is data: they are chosen first, then counted, then written to an output of that size.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..sorting import best_sorted
from ..values import PrimExpr, Value, tensor_shape
from .empty import filled_if_empty


@converter("NonMaxSuppression")
def non_max_suppression(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    boxes, scores, most, overlap, least = [*inputs, None, None, None][:5]
    assert boxes is not None and scores is not None
    shape, dims = tensor_shape(boxes), tensor_shape(scores)
    if len(shape) != 3 or len(dims) != 3:
        raise ConversionError(
            f"needs boxes [batch, n, 4] and scores [batch, classes, n], found {list(shape)}, {list(dims)}"
        )
    same_dim(ctx, [shape[2], 4], "the numbers of a box and 4")
    same_dim(ctx, [shape[0], dims[0]], "the batches of boxes and scores")
    same_dim(ctx, [shape[1], dims[2]], "the numbers of boxes and of scores")
    if never_has_elements(dims) or most is None:
        return zeros(ctx, [0, 3], "int64")
    order = _order(ctx, scores)
    limits = [_number(ctx, most, np.int64), _number(ctx, overlap, np.float32), _number(ctx, least, np.float32)]
    centred, bounded = bool(node.attr("center_point_box", 0)), least is not None

    def choose(*tensors: te.Tensor) -> list[te.Tensor]:
        def body(ins: Any, outs: Any) -> tirx.Stmt:
            buffers = [T.buffer_proxy(buffer) for buffer in (*ins, *outs)]
            with IRBuilder() as builder:
                _choose(buffers, [prim(dim) for dim in tensors[1].shape], centred, bounded)
            return builder.get()

        rows = prim_list([tensors[1].shape[0] * tensors[1].shape[1]])
        return te.extern([tensors[1].shape, rows], list(tensors), body, dtype=["int64", "int64"], name="choose_boxes")

    both = ctx.te(choose, ctx.tensor(boxes), ctx.tensor(scores), order, *limits, name="choose_boxes")
    chosen, counts = (ctx.emit(relax.TupleGetItem(both, i)) for i in range(2))
    return _collected(ctx, chosen, counts, dims)


def _number(ctx: Context, value: Value | None, dtype: type) -> relax.Expr:
    return ctx.tensor(np.zeros(1, dtype) if value is None else ctx.reshape(value, [1]))


def _order(ctx: Context, scores: Value) -> relax.Expr:
    size = tensor_shape(scores)[2]
    sorted_ = ctx.te(lambda x, k: best_sorted(x, 2, k, operator.gt), ctx.tensor(scores), size, name="order_scores")
    return ctx.emit(relax.TupleGetItem(sorted_, 1))


def _choose(buffers: list, dims: list, centred: bool, bounded: bool) -> None:
    """For each batch and class, the places of the boxes that stay, and their number."""
    boxes, scores, order, most, overlap, least, chosen, counts = buffers
    batch, classes, size = dims
    with T.parallel(prim(0), batch * classes) as row:
        start, first = T.bind(row * size), T.bind(tirx.truncdiv(row, classes) * size * 4)
        count = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
        keep = T.buffer_proxy(T.alloc_buffer((1,), "bool", scope="local"))
        count[0] = prim(0)
        with T.serial(prim(0), size) as i:
            place = T.bind(order[start + i])
            enough = scores[start + place] > least[prim(0)] if bounded else tirx.const(True)
            keep[0] = tirx.And(enough, count[0] < most[prim(0)])
            box = [T.bind(edge) for edge in _edges(boxes, first + place * 4, centred)]
            with T.serial(prim(0), count[0]) as j, T.If(keep[0]), T.Then():
                other = [T.bind(edge) for edge in _edges(boxes, first + chosen[start + j] * 4, centred)]
                keep[0] = tirx.Not(_overlap_more(box, other, overlap[prim(0)]))
            with T.If(keep[0]), T.Then():
                chosen[start + count[0]] = place
                count[0] = count[0] + 1
        counts[row] = count[0]


def _edges(boxes: Any, at: PrimExpr, centred: bool) -> list[PrimExpr]:
    """Lowest and highest y and x of a box, which may name its corners in any order."""
    a, b, c, d = (boxes[at + i] for i in range(4))
    if centred:  # x, y, width, height
        half = tirx.const(0.5, "float32")
        return [b - d * half, a - c * half, b + d * half, a + c * half]
    return [tirx.min(a, c), tirx.min(b, d), tirx.max(a, c), tirx.max(b, d)]


def _overlap_more(box: list[PrimExpr], other: list[PrimExpr], limit: PrimExpr) -> PrimExpr:
    """Whether the intersection over the union of two boxes exceeds ``limit``."""
    zero = tirx.const(0, "float32")
    sides = [tirx.max(tirx.min(box[i + 2], other[i + 2]) - tirx.max(box[i], other[i]), zero) for i in range(2)]
    shared = sides[0] * sides[1]
    areas = [(edges[2] - edges[0]) * (edges[3] - edges[1]) for edges in (box, other)]
    union = areas[0] + areas[1] - shared
    some = tirx.And(tirx.And(areas[0] > zero, areas[1] > zero), union > zero)
    return tirx.And(some, shared / tirx.Select(union > zero, union, tirx.const(1, "float32")) > limit)


def _collected(ctx: Context, chosen: relax.Expr, counts: relax.Expr, dims: Sequence[PrimExpr]) -> Value:
    """All (batch, class, box) in one tensor of as many rows as there are."""

    def total(counts: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((prim(0), counts.shape[0]), "k")
        return te.compute((prim(1),), lambda _: te.sum(counts(k), axis=[k]), name="total")

    whole = filled_if_empty(ctx, ctx.te(total, counts), list(dims[:2]), lambda dtype: tirx.const(0, dtype))
    (count,) = ctx.ints(whole, "the number of boxes")
    ctx.analyzer.bind(count, tvm.ir.Range(0, 1 << 40))

    def collect(chosen: te.Tensor, counts: te.Tensor, count: PrimExpr, dims: list) -> te.Tensor:
        classes, size = prim(dims[1]), prim(dims[2])

        def body(ins: Any, outs: Any) -> tirx.Stmt:
            with IRBuilder() as builder, T.seq_scope():
                places, numbers, out = (T.buffer_proxy(buffer) for buffer in (*ins, *outs))
                row = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
                row[0] = prim(0)
                with T.serial(prim(0), counts.shape[0]) as i, T.serial(prim(0), numbers[i]) as j:
                    out[row[0] * 3] = tirx.truncdiv(i, classes)
                    out[row[0] * 3 + 1] = tirx.truncmod(i, classes)
                    out[row[0] * 3 + 2] = places[i * size + j]
                    row[0] = row[0] + 1
            return builder.get()

        return te.extern([prim_list([count, 3])], [chosen, counts], body, dtype=["int64"], name="collect_boxes")

    return ctx.te(collect, chosen, counts, count, list(dims), name="collect_boxes")
