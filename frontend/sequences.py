"""Sequences of tensors inside a graph.

``TensorSequence`` has a length that is known when compiling: its items are values, and nothing is left of it in the
compiled model. ``RunTimeSequence`` is what loops and branches give: a list of the runtime's, never changed once it is
made. The ranks of its items are equal and known as soon as it has any; their dims are found out when one is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tvm import relax, tirx

from ..errors import ConversionError
from .arith import prim
from .context import Context, prim_list
from .values import PrimExpr, Value, as_int, rank, tensor_dtype

_OBJECT = relax.ObjectType()


@dataclass(frozen=True)
class TensorSequence:
    dtype: str
    items: tuple[Value, ...]


@dataclass(frozen=True)
class RunTimeSequence:
    """``rank`` is None while nothing says what the items are."""

    handle: relax.Expr
    dtype: str
    rank: int | None


AnySequence: TypeAlias = TensorSequence | RunTimeSequence


def is_sequence(value: object) -> bool:
    return isinstance(value, TensorSequence | RunTimeSequence)


def require_sequence(value: Any) -> AnySequence:
    if isinstance(value, TensorSequence | RunTimeSequence):
        return value
    raise ConversionError("a sequence is needed here, found a tensor")


def sequence_of(values: Sequence[Value], dtype: str | None = None) -> TensorSequence:
    """A sequence of tensors of one dtype. Raises ConversionError for several."""
    dtypes = {tensor_dtype(value) for value in values} | ({dtype} if dtype else set())
    if len(dtypes) != 1:
        raise ConversionError(f"a sequence holds tensors of one dtype, found {sorted(dtypes)}")
    return TensorSequence(dtypes.pop(), tuple(values))


def common_rank(left: int | None, right: int | None) -> int | None:
    """Raises ConversionError for two different ones."""
    if left is not None and right is not None and left != right:
        raise ConversionError(f"tensors of rank {left} and {right} in a sequence of run-time length are not supported")
    return right if left is None else left


def stored(ctx: Context, sequence: AnySequence) -> RunTimeSequence:
    """As a list of the runtime's."""
    if isinstance(sequence, RunTimeSequence):
        return sequence
    tensors = [ctx.tensor(item) for item in sequence.items]
    ranks: int | None = None
    for tensor in tensors:
        ranks = common_rank(ranks, rank(tensor))
    handle = ctx.emit(relax.op.call_pure_packed("ffi.List", *tensors, ty_args=[_OBJECT]), "sequence")
    return RunTimeSequence(handle, sequence.dtype, ranks)


def emitted(ctx: Context, value: Any) -> Any:
    """A value in the form that the compiled model holds: a tensor, or a sequence of run-time length."""
    return stored(ctx, value) if is_sequence(value) else ctx.tensor(value)


def length(ctx: Context, sequence: AnySequence) -> PrimExpr:
    if isinstance(sequence, TensorSequence):
        return len(sequence.items)
    size = ctx.emit(relax.op.call_pure_packed("ffi.ListSize", sequence.handle, ty_args=[_OBJECT]))
    shape = ctx.emit(relax.op.call_pure_packed("ffi.Shape", size, ty_args=[relax.ShapeType(ndim=1)]))
    count = ctx.fresh_dim("length")
    ctx.builder.match_cast(shape, relax.ShapeType([count]))
    ctx.assume_dim(count)
    return count


def position(ctx: Context, sequence: AnySequence, value: Value, past_end: int = 0) -> PrimExpr:
    """An index from the front; ``past_end`` is 1 where one after the last is meant too."""
    (index,) = ctx.ints(value, "the position in a sequence")
    known, count = as_int(index), length(ctx, sequence)
    if known is not None and as_int(count) is not None:
        if not -int(count) <= known < int(count) + past_end:
            raise ConversionError(f"there is no position {known} in a sequence of {count}")
        return known if known >= 0 else known + int(count)
    place = (
        tirx.Select(prim(index) < 0, prim(index + count), prim(index)) if known is None or known < 0 else prim(known)
    )
    place = ctx.compact(ctx.simplify(place))
    ctx.check(tirx.all(prim(place) >= 0, prim(place) < prim(count + past_end)))
    return place


def item(ctx: Context, sequence: AnySequence, index: PrimExpr) -> Value:
    """The tensor at an index that is in range."""
    known = as_int(index)
    if isinstance(sequence, TensorSequence) and known is not None:
        return sequence.items[known]
    source = stored(ctx, sequence)
    if source.rank is None:
        raise ConversionError("what an empty sequence would hold is not known")
    ty = relax.TensorType(None, source.dtype, ndim=source.rank)
    found = ctx.emit(relax.op.call_pure_packed("ffi.ListGetItem", source.handle, prim(index), ty_args=[ty]))
    dims = [ctx.fresh_dim() for _ in range(source.rank)]
    for dim in dims:
        ctx.assume_dim(dim)
    return ctx.builder.match_cast(found, relax.TensorType(prim_list(dims), source.dtype))


def inserted(ctx: Context, sequence: AnySequence, index: PrimExpr, value: Value) -> AnySequence:
    known = as_int(index)
    if isinstance(sequence, TensorSequence) and known is not None:
        return sequence_of([*sequence.items[:known], value, *sequence.items[known:]], sequence.dtype)
    source, tensor = stored(ctx, sequence), ctx.tensor(value)
    if tensor_dtype(tensor) != source.dtype:
        raise ConversionError(f"a {tensor_dtype(tensor)} can't be inserted into a sequence of {source.dtype}")
    handle = _changed(ctx, "insert", source.handle, index, tensor)
    return RunTimeSequence(handle, source.dtype, common_rank(source.rank, rank(tensor)))


def erased(ctx: Context, sequence: AnySequence, index: PrimExpr) -> AnySequence:
    known = as_int(index)
    if isinstance(sequence, TensorSequence) and known is not None:
        return TensorSequence(sequence.dtype, sequence.items[:known] + sequence.items[known + 1 :])
    source = stored(ctx, sequence)
    return RunTimeSequence(_changed(ctx, "erase", source.handle, index), source.dtype, source.rank)


def _changed(ctx: Context, verb: str, handle: relax.Expr, index: PrimExpr, *values: relax.Expr) -> relax.Var:
    """A copy of the list with one change, made in a function of its own: pure as a whole, but not in its parts."""
    builder = relax.BlockBuilder()
    sequence, at = relax.Var("sequence", _OBJECT), relax.Var("at", relax.ShapeType(ndim=1))
    params = [sequence, at, *(relax.Var("item", _OBJECT) for _ in values)]
    with builder.function("change", params, pure=False):
        place = tirx.Var("place", "int64")
        builder.match_cast(at, relax.ShapeType([place]))
        copy = builder.emit(_packed("ffi.List"))
        zero = tirx.const(0, "int64")
        builder.emit(_packed("ffi.ListReplaceSlice", copy, zero, zero, sequence))
        builder.emit(_packed(f"ffi.List{verb.capitalize()}", copy, place, *params[2:]))
        builder.emit_func_output(copy)
    made = builder.finalize()["change"].without_attr("global_symbol")
    pure = relax.Function(made.params, made.body, made.ret_ty, is_pure=True).with_attr("relax.force_pure", True)
    callee = ctx.builder.add_func(pure, f"sequence_{verb}")
    return ctx.emit(relax.Call(callee, [handle, relax.ShapeExpr(prim_list([index])), *values]), "sequence")


def _packed(name: str, *arguments: Any) -> relax.Call:
    return relax.Call(relax.ExternFunc(name), list(arguments), None, [_OBJECT])
