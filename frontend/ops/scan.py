"""Scan: https://onnx.ai/onnx/operators/onnx__Scan.html, with a batch (opset 8) and without (9 and later)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context
from ..loops import Iteration, run_loop
from ..node import Node
from ..registry import converter
from ..subgraphs import run_subgraph, subgraph
from ..values import PrimExpr, Value, rank, tensor_shape


@converter("Scan", since=9)
def scan(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    count = node.attr("num_scan_inputs")
    states, sequences = list(inputs[: len(inputs) - count]), list(inputs[len(inputs) - count :])
    _check(node, len(states), len(sequences))
    axes = [axis % rank(x) for axis, x in zip(node.attr("scan_input_axes", [0] * count), sequences, strict=True)]
    backward = node.attr("scan_input_directions", [0] * count)
    trip = _common(ctx, [tensor_shape(x)[axis] for x, axis in zip(sequences, axes, strict=True)])

    def run(index: PrimExpr, carried: list[Value]) -> Iteration:
        rows = [
            element(ctx, x, axis, trip - 1 - index if reverse else index)
            for x, axis, reverse in zip(sequences, axes, backward, strict=True)
        ]
        outputs = run_subgraph(ctx, node, "body", [*carried, *rows])
        return Iteration(None, outputs[: len(states)], outputs[len(states) :])

    carried, collected = run_loop(ctx, trip, None, states, run)
    out_axes = node.attr("scan_output_axes", [0] * len(collected))
    reversed_ = node.attr("scan_output_directions", [0] * len(collected))
    triples = zip(collected, out_axes, reversed_, strict=True)
    return [*carried, *(placed(ctx, rows, axis, reverse) for rows, axis, reverse in triples)]


def _check(node: Node, states: int, sequences: int) -> None:
    body = subgraph(node, "body")
    if sequences < 1 or states < 0 or len(body.inputs) != states + sequences:
        raise ConversionError(
            f"the body takes {len(body.inputs)} values, which doesn't fit {states} states and {sequences} sequences"
        )
    if not max(states, node.output_count) <= len(body.outputs):
        raise ConversionError(f"the body gives {len(body.outputs)} values, too few for {states} states and the outputs")


def _common(ctx: Context, lengths: Sequence[PrimExpr]) -> PrimExpr:
    """The sequences' length, after a check that they have one."""
    for length in lengths[1:]:
        ctx.check(tirx.EQ(prim(length), prim(lengths[0])))
    return lengths[0]


def element(ctx: Context, value: Value, axis: int, index: PrimExpr) -> Value:
    """``value`` at ``index`` of ``axis``, which goes. The caller knows that it is in range."""

    def scanned(x: te.Tensor, index: PrimExpr) -> te.Tensor:
        dims = [*x.shape[:axis], *x.shape[axis + 1 :]]
        return te.compute(dims, lambda *at: x(*at[:axis], index, *at[axis:]), name="scanned")

    return ctx.te(scanned, value, prim(index))


def placed(ctx: Context, rows: Value, axis: int, reverse: int) -> Value:
    """``rows`` [iterations, ...] with iterations along ``axis``, the last first if ``reverse``."""
    axis %= rank(rows)
    if axis == 0 and not reverse:
        return rows

    def placed(x: te.Tensor) -> te.Tensor:
        count, *rest = x.shape

        def value(*at: tirx.Var) -> PrimExpr:
            row = count - 1 - at[axis] if reverse else at[axis]
            return x(row, *at[:axis], *at[axis + 1 :])

        return te.compute([*rest[:axis], count, *rest[axis:]], value, name="placed")

    return ctx.te(placed, rows)


@converter("Scan", since=8)
def scan_8(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """A loop over the batch around one over the sequence, which may be shorter for some elements of the batch."""
    count = node.attr("num_scan_inputs")
    lengths, *rest = inputs
    given = [value for value in rest if value is not None]
    states, sequences = given[: len(given) - count], given[len(given) - count :]
    _check(node, len(states), len(sequences))
    backward = node.attr("directions", [0] * count)
    batch = _common(ctx, [tensor_shape(value)[0] for value in given])
    longest = _common(ctx, [tensor_shape(value)[1] for value in sequences])

    def outer(element_of_batch: PrimExpr, _carried: list[Value]) -> Iteration:
        own = [element(ctx, value, 0, element_of_batch) for value in given]
        trip = longest
        if lengths is not None:
            (trip,) = ctx.ints(element(ctx, lengths, 0, element_of_batch), "the sequence's length")
            ctx.check(tirx.all(trip >= 0, trip <= prim(longest)))

        def inner(index: PrimExpr, carried: list[Value]) -> Iteration:
            rows = [
                element(ctx, x, 0, trip - 1 - index if reverse else index)
                for x, reverse in zip(own[len(states) :], backward, strict=True)
            ]
            outputs = run_subgraph(ctx, node, "body", [*carried, *rows])
            return Iteration(None, outputs[: len(states)], outputs[len(states) :])

        carried, collected = run_loop(ctx, trip, None, own[: len(states)], inner)
        return Iteration(None, [], [*carried, *(_padded(ctx, rows, longest) for rows in collected)])

    return run_loop(ctx, batch, None, [], outer)[1]


def _padded(ctx: Context, rows: Value, count: PrimExpr) -> Value:
    """``count`` rows: zeros after those that there are."""
    if ctx.equal(tensor_shape(rows)[0], count):
        return rows

    def padded(x: te.Tensor, count: PrimExpr) -> te.Tensor:
        def value(row: tirx.Var, *at: tirx.Var) -> PrimExpr:
            return tirx.if_then_else(row < x.shape[0], x(row, *at), tirx.const(0, x.dtype))

        return te.compute([count, *x.shape[1:]], value, name="padded")

    return ctx.te(padded, rows, prim(count))
