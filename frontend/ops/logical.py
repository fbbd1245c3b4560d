"""Comparison, logical and bitwise operators, and Where.

https://onnx.ai/onnx/operators/onnx__Equal.html and siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, tensor_dtype
from .broadcasting import RelaxOp, Scalar, elementwise
from .elementwise import aligned, exclusive_or
from .unary import map_elements


def _bits(dtype: str) -> int:
    return int("".join(c for c in dtype if c.isdigit()))


def _binary(relax_op: RelaxOp, scalar: Scalar, name: str) -> Callable[..., Value]:
    def convert(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
        return elementwise(ctx, aligned(ctx, node, inputs), scalar, relax_op, name)

    return convert


@converter("Equal")
def equal(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    if tensor_dtype(inputs[0]) == "bool":
        return elementwise(ctx, aligned(ctx, node, inputs), lambda a, b: tirx.Not(exclusive_or(a, b)), None, "equal")
    return elementwise(ctx, aligned(ctx, node, inputs), tirx.EQ, relax.op.equal, "equal")


converter("Less")(_binary(relax.op.less, tirx.LT, "less"))
converter("LessOrEqual")(_binary(relax.op.less_equal, tirx.LE, "less_equal"))
converter("Greater")(_binary(relax.op.greater, tirx.GT, "greater"))
converter("GreaterOrEqual")(_binary(relax.op.greater_equal, tirx.GE, "greater_equal"))
converter("And")(_binary(relax.op.logical_and, tirx.And, "logical_and"))
converter("Or")(_binary(relax.op.logical_or, tirx.Or, "logical_or"))
converter("Xor")(_binary(relax.op.logical_xor, exclusive_or, "logical_xor"))
converter("BitwiseAnd")(_binary(relax.op.bitwise_and, lambda a, b: a & b, "bitwise_and"))
converter("BitwiseOr")(_binary(relax.op.bitwise_or, lambda a, b: a | b, "bitwise_or"))
converter("BitwiseXor")(_binary(relax.op.bitwise_xor, lambda a, b: a ^ b, "bitwise_xor"))


@converter("Not")
def logical_not(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    def opposite(x: PrimExpr) -> PrimExpr:
        """TVM makes ``a <= b`` of ``not a > b``, which differs where one is NaN: it sees no comparison here."""
        return tirx.Cast("int8", x) < tirx.const(1, "int8")

    return map_elements(ctx, inputs[0], opposite, "logical_not")


@converter("BitwiseNot")
def bitwise_not(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return ctx.emit(relax.op.bitwise_not(ctx.tensor(inputs[0])))


def _amount(b: PrimExpr, width: int) -> tuple[PrimExpr, PrimExpr]:
    """(at most the width less 1, whether it is below the width). Between unsigned constants neither is left to TVM,
    which simplifies comparisons by subtracting, and fails where that gives less than 0."""
    word, known = str(b.ty.dtype), as_int(b)
    if known is not None:
        return tirx.const(min(known, width - 1), word), tirx.const(known < width, "bool")
    return tirx.min(b, tirx.const(width - 1, word)), tirx.LT(b, tirx.const(width, word))


@converter("BitShift", since=11)
def bit_shift(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Shifts by the word's width or more, or by negative amounts, shift everything out.

    The processor would take amounts modulo the width.
    """
    direction = node.attr("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise ConversionError(f"direction must be LEFT or RIGHT, found {direction!r}")
    width = _bits(tensor_dtype(inputs[0]))

    def scalar(a: PrimExpr, b: PrimExpr) -> PrimExpr:
        dtype = str(a.ty.dtype)
        word = f"u{dtype.removeprefix('u')}"
        amount, fits = _amount(b.astype(word), width)
        amount = amount.astype(dtype)
        if direction == "LEFT":
            return tirx.Select(fits, (a.astype(word) << amount.astype(word)).astype(dtype), tirx.const(0, dtype))
        rest = a >> amount  # a signed number's sign fills in
        return tirx.Select(fits, rest, tirx.const(0, dtype)) if dtype.startswith("u") else rest

    return elementwise(ctx, inputs, scalar, None, "bit_shift")


def where(ctx: Context, condition: Value, left: Value, right: Value) -> relax.Expr:
    """``left`` where ``condition`` (bool) holds, else ``right``; all three broadcast."""
    return elementwise(ctx, [condition, left, right], tirx.Select, relax.op.where, "where")


@converter("Where")
def convert_where(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return where(ctx, *inputs)
