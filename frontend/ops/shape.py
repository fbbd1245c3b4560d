"""Operators that only change a tensor's shape or ask for it: Shape, Size, Reshape, Flatten, (Un)squeeze, Identity.

https://onnx.ai/onnx/operators/onnx__Reshape.html and siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from tvm import relax, tirx

from ...contract import COPIED_SIZE
from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, SymbolicInts, Value, as_int, rank, symbolic, tensor_shape
from .run_time_axes import squeezed, unsqueezed


def product(dims: Sequence[PrimExpr]) -> PrimExpr:
    return reduce(lambda a, b: a * b, dims, 1)


@converter("Shape")
def shape(_ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    dims = tensor_shape(inputs[0])[node.attr("start", 0) : node.attr("end", None)]
    return symbolic(list(dims))


@converter("Size")
def size(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return symbolic(ctx.simplify(product(tensor_shape(inputs[0]))))


@converter("Identity")
def identity(_ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return inputs[0]


@converter("Reshape", since=5)
def reshape(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    target = ctx.ints(inputs[1], "the new shape")
    if isinstance(inputs[1], relax.Expr) and not node.attr("allowzero", 0):
        # What is read at run time may be 0, "as in the input".
        pairs = list(zip(target, tensor_shape(inputs[0]), strict=False))
        target = [*(tirx.Select(dim == 0, _prim(own), dim) for dim, own in pairs), *target[len(pairs) :]]
    allow_zero = bool(node.attr("allowzero", 0))
    if isinstance(inputs[1], SymbolicInts) and not allow_zero:
        _refuse_copies(ctx, tensor_shape(inputs[0]), target)
    return ctx.reshape(inputs[0], resolve_reshape(ctx, tensor_shape(inputs[0]), target, allow_zero))


def _refuse_copies(ctx: Context, source: Sequence[PrimExpr], target: Sequence[PrimExpr]) -> None:
    """An open dim that is 0 when the model runs would mean "as in the input" in a new shape, and not 0.

    A choice in the shape would cost every later proof about it, so the case is refused where the two differ.
    """
    for i, dim in enumerate(target):
        if as_int(dim) is not None or (i < len(source) and ctx.equal(dim, source[i])):
            continue
        same = dim != 0 if i >= len(source) else tirx.any(dim != 0, _prim(source[i]) == 0)
        ctx.check(same, COPIED_SIZE)


@converter("Reshape", since=1)
def reshape_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    return ctx.reshape(inputs[0], resolve_reshape(ctx, tensor_shape(inputs[0]), node.attr("shape"), False))


def resolve_reshape(
    ctx: Context, source: Sequence[PrimExpr], target: Sequence[PrimExpr], allow_zero: bool
) -> list[PrimExpr]:
    """Replace 0 (copy the dim) and -1 (infer it) by the sizes they stand for; check that the sizes agree.

    Dims read at run time may hold 0 or -1 too: then the choice is made there.
    """
    dims = [_copied(source, i, dim, allow_zero) for i, dim in enumerate(target)]
    inferred = [i for i, dim in enumerate(dims) if as_int(dim) == -1]
    if len(inferred) > 1:
        raise ConversionError(f"more than one -1 in the new shape {list(target)}")
    total = product(source)
    if not inferred:
        maybe = [i for i, dim in enumerate(dims) if as_int(dim) is None and not ctx.prove(dim >= 0)]
        return _resolve_at_run(ctx, total, dims, maybe)
    (hole,) = inferred
    rest, numerator = _cancel(ctx, source, dims[:hole] + dims[hole + 1 :])
    if as_int(rest) == 0:
        raise ConversionError(f"-1 can't be inferred beside a 0 in the new shape {list(target)}")
    if as_int(rest) is not None and as_int(numerator) is not None:
        if int(numerator) % int(rest):
            raise ConversionError(
                f"shape {list(source)} can't become {list(target)}: {numerator} is no multiple of {rest}"
            )
        dims[hole] = int(numerator) // int(rest)
        return dims
    dims[hole] = ctx.simplify(tirx.floordiv(numerator, rest))
    if as_int(rest) is None and not ctx.equal(dims[hole] * rest, numerator):
        # Where a division is left its divisor may be 0 when the model runs, and that would end the process.
        dims[hole] = ctx.simplify(tirx.floordiv(numerator, tirx.max(rest, _prim(1))))
    ctx.check(tirx.EQ(_prim(dims[hole] * rest), _prim(numerator)))
    return dims


def _prim(value: PrimExpr) -> PrimExpr:
    return tirx.const(int(value), "int64") if as_int(value) is not None else value


def _copied(source: Sequence[PrimExpr], index: int, dim: PrimExpr, allow_zero: bool) -> PrimExpr:
    if as_int(dim) != 0 or allow_zero:
        return dim
    if index >= len(source):
        raise ConversionError(f"dim {index} of the new shape is 0 (copy), but the input has rank {len(source)}")
    return source[index]


def _cancel(ctx: Context, source: Sequence[PrimExpr], dims: Sequence[PrimExpr]) -> tuple[PrimExpr, PrimExpr]:
    """(product of ``dims``, product of ``source``) without the factors that they share.

    Equal symbolic factors are dropped, so that batch x seq x 384 over batch x seq is 384 and needs no proof; where such
    a dim is 0 the tensor is empty and any size agrees.
    """
    left, right = list(source), []
    for dim in dims:
        match = next((i for i, other in enumerate(left) if as_int(dim) is None and ctx.equal(dim, other)), None)
        if match is None:
            right.append(dim)
        else:
            del left[match]
    return ctx.simplify(product(right)), ctx.simplify(product(left))


def _resolve_at_run(ctx: Context, total: PrimExpr, dims: list[PrimExpr], maybe: list[int]) -> list[PrimExpr]:
    """Dims that are data may be -1: each is replaced by what is left of the total where it is."""
    if not maybe:
        if not ctx.equal(product(dims), total):
            if all(as_int(dim) is not None for dim in [*dims, total]):
                raise ConversionError(f"{total} elements don't fit the new shape {dims}")
            ctx.check(tirx.EQ(_prim(product(dims)), _prim(total)))
        return dims
    for i in maybe:
        ctx.check(dims[i] >= -1)
    known = product(
        [tirx.Select(dim == -1, tirx.const(1, "int64"), dim) if i in maybe else dim for i, dim in enumerate(dims)]
    )
    left = tirx.floordiv(_prim(total), tirx.max(_prim(known), tirx.const(1, "int64")))
    resolved = [tirx.Select(dim == -1, left, dim) if i in maybe else dim for i, dim in enumerate(dims)]
    resolved = [ctx.compact(dim) for dim in resolved]
    ctx.check(tirx.EQ(_prim(product(resolved)), _prim(total)))
    return resolved


@converter("Flatten")
def flatten(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    dims = tensor_shape(inputs[0])
    axis = node.attr("axis", 1)
    axis = axis + len(dims) if axis < 0 else axis
    return ctx.reshape(inputs[0], [ctx.simplify(product(dims[:axis])), ctx.simplify(product(dims[axis:]))])


def axes_of(ctx: Context, node: Node, inputs: Sequence[Value | None], index: int = 1) -> list[int] | None:
    """``axes`` from input ``index`` (newer opsets) or the attribute (older); None where omitted."""
    if len(inputs) > index and inputs[index] is not None:
        array = ctx.require_constant(inputs[index], "axes")
        return [int(axis) for axis in array.reshape(-1)]
    axes = node.attr("axes")
    return None if axes is None else [int(axis) for axis in axes]


def normalized_axes(axes: Sequence[int], dims: int) -> list[int]:
    """Axes counted from the front; a refusal of those that don't exist."""
    for axis in axes:
        if not -dims <= axis < dims:
            raise ConversionError(f"axis {axis} does not exist in a tensor of rank {dims}")
    return [axis % dims for axis in axes]


def _is_computed(inputs: Sequence[Value | None]) -> bool:
    """Whether axes are an input whose numbers are known only when the model runs."""
    return len(inputs) > 1 and isinstance(inputs[1], relax.Expr)


@converter("Unsqueeze")
def unsqueeze(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    if _is_computed(inputs):
        return unsqueezed(ctx, inputs[0], inputs[1])
    axes = axes_of(ctx, node, inputs)
    dims = list(tensor_shape(inputs[0]))
    where = sorted(normalized_axes(axes or [], len(dims) + len(axes or [])))
    for axis in where:
        dims.insert(axis, 1)
    return ctx.reshape(inputs[0], dims)


@converter("Squeeze")
def squeeze(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    if _is_computed(inputs):
        return squeezed(ctx, inputs[0], inputs[1])
    dims = tensor_shape(inputs[0])
    axes = axes_of(ctx, node, inputs)
    dropped = (
        [i for i, dim in enumerate(dims) if as_int(dim) == 1 or ctx.prove(tirx.EQ(_prim(dim), tirx.const(1, "int64")))]
        if axes is None
        else normalized_axes(axes, rank(inputs[0]))
    )
    for axis in dropped:
        if as_int(dims[axis]) not in (1, None):
            raise ConversionError(f"axis {axis} can't be squeezed: its size is {dims[axis]}")
        ctx.check(tirx.EQ(_prim(dims[axis]), tirx.const(1, "int64")))
    if axes is None:  # an open dim is kept: were it 1 in a run, it would have to go
        for i, dim in enumerate(dims):
            if i not in dropped and as_int(dim) is None:
                ctx.check(tirx.NE(_prim(dim), tirx.const(1, "int64")))
    return ctx.reshape(inputs[0], [dim for i, dim in enumerate(dims) if i not in dropped])
