"""Sequences: https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html and siblings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from tvm import tirx

from ...errors import ConversionError
from ..arith import ceildiv, known, minimum, prim
from ..context import Context
from ..loops import Iteration, run_loop
from ..node import Node
from ..registry import converter
from ..sequences import (
    TensorSequence,
    erased,
    inserted,
    is_sequence,
    item,
    length,
    position,
    require_sequence,
    sequence_of,
)
from ..subgraphs import run_subgraph
from ..values import PrimExpr, Value, as_int, rank, symbolic, tensor_dtype, tensor_shape
from .concat import join, parts_along
from .scan import element, placed
from .shape import normalized_axes
from .slice import Cut, take_cuts


@converter("SequenceConstruct")
def construct(_ctx: Context, _node: Node, inputs: Sequence[Value]) -> Any:
    return sequence_of(inputs)


@converter("SequenceEmpty")
def empty(_ctx: Context, node: Node, _inputs: Sequence[Value]) -> Any:
    return TensorSequence(ir.DataType(node.attr("dtype", ir.DataType.FLOAT.value)).numpy().name, ())


@converter("SequenceLength")
def sequence_length(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return symbolic(length(ctx, require_sequence(inputs[0])))


@converter("SequenceAt")
def at(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    sequence = require_sequence(inputs[0])
    return item(ctx, sequence, position(ctx, sequence, inputs[1]))


@converter("SequenceInsert")
def insert(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Any:
    sequence, value = require_sequence(inputs[0]), inputs[1]
    assert value is not None
    if len(inputs) < 3 or inputs[2] is None:
        return inserted(ctx, sequence, length(ctx, sequence), value)
    return inserted(ctx, sequence, position(ctx, sequence, inputs[2], past_end=1), value)


@converter("SequenceErase")
def erase(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Any:
    sequence = require_sequence(inputs[0])
    if len(inputs) < 2 or inputs[1] is None:
        last = length(ctx, sequence) - 1
        ctx.check(prim(last) >= 0)
        return erased(ctx, sequence, last)
    return erased(ctx, sequence, position(ctx, sequence, inputs[1]))


@converter("SplitToSequence")
def split_to_sequence(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Any:
    data, sizes = inputs[0], inputs[1] if len(inputs) > 1 else None
    assert data is not None
    (axis,) = normalized_axes([node.attr("axis", 0)], rank(data))
    size = tensor_shape(data)[axis]
    if sizes is None:
        keep = node.attr("keepdims", 1)
        return _pieces(ctx, data, size, lambda i: _row(ctx, data, axis, i, bool(keep)))
    given = ctx.ints(sizes, "the sizes of a split")
    if rank(sizes) == 1:
        return sequence_of(parts_along(ctx, data, axis, given))
    (step,) = given
    if as_int(step) is not None and int(step) <= 0:
        raise ConversionError(f"pieces must have a positive size, found {step}")
    ctx.check(prim(step) >= 1)

    def piece(i: PrimExpr) -> Value:
        return take_cuts(ctx, data, {axis: Cut(i * step, ctx.simplify(minimum(step, size - i * step)), 1)})

    return _pieces(ctx, data, ctx.simplify(ceildiv(size, tirx.max(*map(prim, (step, 1))))), piece)


def _row(ctx: Context, data: Value, axis: int, index: PrimExpr, keep: bool) -> Value:
    return take_cuts(ctx, data, {axis: Cut(index, 1, 1)}) if keep else element(ctx, data, axis, index)


def _pieces(ctx: Context, data: Value, count: PrimExpr, piece: Any) -> Any:
    """``count`` pieces, made now if the count is known, else in a loop."""
    if known(count):
        return sequence_of([piece(i) for i in range(int(count))], tensor_dtype(data))

    def run(index: PrimExpr, carried: list[Any]) -> Iteration:
        return Iteration(None, [inserted(ctx, carried[0], index, piece(index))], [])

    start: Any = TensorSequence(tensor_dtype(data), ())
    return run_loop(ctx, count, None, [start], run)[0][0]


@converter("ConcatFromSequence")
def concat_from_sequence(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    sequence, axis, stack = require_sequence(inputs[0]), node.attr("axis"), node.attr("new_axis", 0)
    if isinstance(sequence, TensorSequence):
        if not sequence.items:
            raise ConversionError("an empty sequence can't be joined")
        if not stack:
            return join(ctx, sequence.items, axis)
        (axis,) = normalized_axes([axis], rank(sequence.items[0]) + 1)
        pairs = [(value, tensor_shape(value)) for value in sequence.items]
        return join(ctx, [ctx.reshape(value, [*dims[:axis], 1, *dims[axis:]]) for value, dims in pairs], axis)
    count = length(ctx, sequence)
    ctx.check(prim(count) >= 1)
    if stack:
        rows_of = lambda index, _carried: Iteration(None, [], [item(ctx, sequence, index)])  # noqa: E731
        (rows,) = run_loop(ctx, count, None, [], rows_of)[1]
        return placed(ctx, rows, axis, 0)

    def run(index: PrimExpr, carried: list[Value]) -> Iteration:
        return Iteration(None, [join(ctx, [carried[0], item(ctx, sequence, index + 1)], axis)], [])

    return run_loop(ctx, count - 1, None, [item(ctx, sequence, 0)], run)[0][0]


@converter("SequenceMap")
def sequence_map(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Any]:
    """The body on each item of the first sequence, with the items of further ones beside it and tensors as they are."""
    first = require_sequence(inputs[0])
    count = length(ctx, first)
    for other in inputs[1:]:
        if is_sequence(other):
            ctx.check(tirx.EQ(prim(length(ctx, require_sequence(other))), prim(count)))

    def run(index: PrimExpr) -> list[Value]:
        return run_subgraph(
            ctx, node, "body", [item(ctx, v, index) if is_sequence(v) else v for v in inputs]  # type: ignore[arg-type]
        )  # fmt: skip

    if known(count):
        results = [run(i) for i in range(int(count))]
        if not results:
            raise ConversionError("the map of a sequence that is empty when compiling is not supported")
        return [sequence_of([result[k] for result in results]) for k in range(node.output_count)]
    dtypes = [_declared(node, k) for k in range(node.output_count)]

    def step(index: PrimExpr, carried: list[Any]) -> Iteration:
        results = run(index)
        pairs = zip(carried, results, strict=True)
        return Iteration(None, [inserted(ctx, sequence, index, result) for sequence, result in pairs], [])

    start: list[Any] = [TensorSequence(dtype, ()) for dtype in dtypes]
    return run_loop(ctx, count, None, start, step)[0]


def _declared(node: Node, k: int) -> str:
    dtype = node.attr("body").outputs[k].dtype
    if dtype is None:
        raise ConversionError(f"the body's output {k} doesn't say its dtype")
    return str(dtype.numpy().name)
