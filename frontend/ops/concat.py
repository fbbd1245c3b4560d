"""Concat and Split: https://onnx.ai/onnx/operators/onnx__Concat.html, https://onnx.ai/onnx/operators/onnx__Split.html."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import ceildiv, equal, floordiv, known, maximum, minimum, prim, total
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape, same_dim
from ..values import PrimExpr, Value, as_int, tensor_shape
from .shape import normalized_axes
from .slice import Cut, take_cuts


@converter("Concat")
def concat(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    return join(ctx, inputs, node.attr("axis", 1))


def join(ctx: Context, inputs: Sequence[Value], axis: int) -> Value:
    """The tensors one after the other along ``axis``."""
    shapes = [tensor_shape(value) for value in inputs]
    if len({len(shape) for shape in shapes}) != 1:
        raise ConversionError(f"inputs of different ranks can't be joined: {[len(shape) for shape in shapes]}")
    (axis,) = normalized_axes([axis], len(shapes[0]))
    shape = [
        ctx.simplify(total([dims[i] for dims in shapes]))
        if i == axis
        else same_dim(ctx, [dims[i] for dims in shapes], f"the sizes of joined tensors along axis {i}")
        for i in range(len(shapes[0]))
    ]
    tensors = [ctx.tensor(value) for value, dims in zip(inputs, shapes, strict=True) if as_int(dims[axis]) != 0]
    if len(tensors) <= 1:
        return tensors[0] if tensors else inputs[0]
    joined = emit_if_shape(ctx, relax.op.concat(tensors, axis), shape)
    return ctx.te(_join, tensors, shape, axis, name="concat") if joined is None else joined


def _join(parts: list[te.Tensor], shape: list[PrimExpr], axis: int) -> te.Tensor:
    """Joins tensors whose other dims agree only by a check at run time."""

    def element(*index: tirx.Var) -> tirx.PrimExpr:
        offsets = [total([part.shape[axis] for part in parts[:i]]) for i in range(len(parts))]
        result = parts[-1](*_moved(index, axis, offsets[-1]))
        for part, offset, end in zip(parts[-2::-1], offsets[-2::-1], offsets[:0:-1], strict=True):
            result = tirx.if_then_else(index[axis] < end, part(*_moved(index, axis, offset)), result)
        return result

    return te.compute(prim_list(shape), element, name="concat")


def _moved(index: Sequence[tirx.Var], axis: int, offset: PrimExpr) -> list[PrimExpr]:
    return [position - offset if i == axis else position for i, position in enumerate(index)]


@converter("Split", since=18)
def split_18(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Adds ``num_outputs``: equal parts, of which the last may be smaller."""
    if len(inputs) > 1 and inputs[1] is not None:
        return _by_sizes(ctx, node, inputs)
    assert inputs[0] is not None
    size = _size(node, inputs[0])
    count = node.attr("num_outputs", node.output_count)
    part = ctx.simplify(ceildiv(size, count))
    if known(size):
        lengths = [max(0, min(part, int(size) - i * part)) for i in range(count)]
    else:
        lengths = [ctx.simplify(maximum(minimum(part, size - part * i), 0)) for i in range(count)]
    return _split(ctx, node, inputs[0], lengths)


@converter("Split", since=13)
def split_13(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    return _by_sizes(ctx, node, inputs)


def _by_sizes(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    assert inputs[0] is not None
    given = inputs[1] if len(inputs) > 1 else None
    lengths = _equal_parts(ctx, node, inputs[0]) if given is None else ctx.ints(given, "the sizes of a split")
    return _split(ctx, node, inputs[0], lengths)


@converter("Split", since=1)
def split_1(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    assert inputs[0] is not None
    given = (
        ctx.ints(inputs[1], "the sizes of a split") if len(inputs) > 1 and inputs[1] is not None else node.attr("split")
    )
    return _split(ctx, node, inputs[0], given or _equal_parts(ctx, node, inputs[0]))


def _size(node: Node, data: Value) -> PrimExpr:
    dims = tensor_shape(data)
    return dims[normalized_axes([node.attr("axis", 0)], len(dims))[0]]


def _equal_parts(ctx: Context, node: Node, data: Value) -> list[PrimExpr]:
    size, count = _size(node, data), node.output_count
    if known(size) and int(size) % count:
        raise ConversionError(f"{size} elements can't be split into {count} equal parts")
    part = ctx.simplify(floordiv(size, count))
    ctx.check(equal(part * count, size))
    return [part] * count


def _split(ctx: Context, node: Node, data: Value, lengths: Sequence[PrimExpr]) -> list[Value]:
    if len(lengths) != node.output_count:
        raise ConversionError(f"{len(lengths)} sizes for {node.output_count} outputs")
    return parts_along(ctx, data, node.attr("axis", 0), lengths)


def parts_along(ctx: Context, data: Value, axis: int, lengths: Sequence[PrimExpr]) -> list[Value]:
    """Each part as a slice of its own, which fuses into whatever uses it."""
    dims = tensor_shape(data)
    (axis,) = normalized_axes([axis], len(dims))
    used = ctx.simplify(total(lengths))
    if known(used, dims[axis]) and int(used) != int(dims[axis]):
        raise ConversionError(f"the parts {list(lengths)} don't add up to the size {dims[axis]}")
    ctx.check(equal(used, dims[axis]))
    parts, start = [], 0
    for length in lengths:
        if known(length) and int(length) < 0:
            raise ConversionError(f"a part of a split has the negative size {length}")
        if not known(length):
            ctx.check(prim(length) >= 0)
        parts.append(take_cuts(ctx, data, {axis: Cut(start, length, 1)}))
        start = ctx.simplify(start + length)
    return parts
