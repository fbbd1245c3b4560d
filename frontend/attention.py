"""The parts that ONNX Runtime's attention operators share: heads, additive masks, caches, the products themselves.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Letters for dims as there: B batch, N
heads, S tokens of the query, L new and P past tokens of the keys, T = P + L, H width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import relax, te, tirx

from ..errors import ConversionError
from .arith import prim
from .context import Context, prim_list
from .ops.activation import number
from .ops.concat import join
from .ops.elementwise import add, multiply
from .ops.matmul import matmul
from .ops.precision import cast_to, widened
from .shapes import same_dim
from .values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape

LOWEST = -3.4028234663852886e38
"""What ONNX Runtime adds to a score that causality rules out."""


def split_heads(ctx: Context, value: Value, heads: int) -> relax.Expr:
    """[B, S, N * H] to [B, N, S, H]."""
    batch, tokens, width = tensor_shape(value)
    known = as_int(width)
    if known is None or known % heads:
        raise ConversionError(f"{width} numbers can't be split into {heads} heads")
    return heads_first(ctx, ctx.reshape(value, [batch, tokens, heads, known // heads]))


def heads_first(ctx: Context, value: Value) -> relax.Expr:
    """[B, S, N, H] to [B, N, S, H]."""
    return ctx.emit(relax.op.permute_dims(ctx.tensor(value), [0, 2, 1, 3]))


def joined_heads(ctx: Context, value: relax.Expr) -> Value:
    """[B, N, S, H] to [B, S, N * H]."""
    batch, heads, tokens, width = tensor_shape(value)
    return ctx.reshape(
        ctx.emit(relax.op.permute_dims(value, [0, 2, 1, 3])), [batch, tokens, ctx.simplify(heads * width)]
    )


def with_past(ctx: Context, past: Value | None, new: relax.Expr) -> relax.Expr:
    """Past [B, N, P, H] and new [B, N, L, H] keys or values as one."""
    return new if past is None else ctx.tensor(join(ctx, [past, new], 2))


def scale_of(scale: float | None, width: PrimExpr) -> float:
    """The factor of the scores: 1 / sqrt(H) unless given."""
    known = as_int(width)
    if scale:
        return scale
    if known is None:
        raise ConversionError("the width of a head must be known when compiling")
    return 1 / math.sqrt(known)


def scores_of(ctx: Context, query: Value, key: Value, factor: float) -> relax.Expr:
    """[..., S, H] x [..., T, H] to [..., S, T] in float32, times ``factor``."""
    order = list(range(rank(key)))
    order[-2:] = order[:-3:-1]
    turned = ctx.emit(relax.op.permute_dims(widened(ctx, key), order))
    query = widened(ctx, query)
    return matmul(ctx, multiply(ctx, query, number(factor, query)), turned)


def attended(ctx: Context, scores: relax.Expr, value: Value) -> relax.Expr:
    """softmax([..., S, T]) x [..., T, H], in the type of the value."""
    shares = ctx.emit(relax.op.nn.softmax(scores, rank(scores) - 1))
    return cast_to(ctx, matmul(ctx, shares, widened(ctx, value)), tensor_dtype(value))


def attend(ctx: Context, query: Value, key: Value, value: Value, factor: float, biases: Sequence[Value]) -> Value:
    """Attention of [B, N, ...] with all of ``biases`` added to the scores: [B, S, N * H]."""
    scores = scores_of(ctx, query, key, factor)
    for bias in biases:
        scores = add(ctx, scores, cast_to(ctx, ctx.tensor(bias), "float32"))
    return joined_heads(ctx, attended(ctx, scores, value))


def causal_bias(ctx: Context, tokens: PrimExpr, total: PrimExpr, new: PrimExpr) -> relax.Expr:
    """[1, 1, S, T]: 0 for the past keys and as many of the ``new`` ones as a token's place.

    The last token sees all keys, also where there are more new keys than tokens: ONNX Runtime leaves its row alone.
    """

    def causal(tokens: PrimExpr, total: PrimExpr, new: PrimExpr) -> te.Tensor:
        def element(_b: tirx.Var, _n: tirx.Var, s: tirx.Var, t: tirx.Var) -> PrimExpr:
            seen = tirx.any(t <= total - new + s, s == tokens - 1)
            return tirx.Select(seen, tirx.const(0, "float32"), tirx.const(LOWEST, "float32"))

        return te.compute(prim_list([1, 1, tokens, total]), element, name="causal")

    return ctx.te(causal, prim(tokens), prim(total), prim(new))


def padding_bias(ctx: Context, mask: Value, batch: PrimExpr, total: PrimExpr, hidden: float) -> relax.Expr:
    """A mask of int32 as what is added to the scores: 0 where a key counts, ``hidden`` where not.

    Taken are [B, T] and [B, S, T] with 1 for what counts, [B] with the end of what counts, [2B] with ends and starts.
    """
    dims = tensor_shape(mask)
    shown, out = tirx.const(0, "float32"), tirx.const(hidden, "float32")
    if len(dims) == 1:
        return _range_bias(ctx, mask, batch, total, hidden)
    if len(dims) not in (2, 3):
        raise ConversionError(f"masks of shape {list(dims)} are not supported; [B], [2B], [B, T] and [B, S, T] are")
    same_dim(ctx, [dims[-1], total], "the sizes of mask and keys")
    same_dim(ctx, [dims[0], batch], "the batch sizes of mask and query")

    def padding(flags: te.Tensor) -> te.Tensor:
        def element(b: tirx.Var, _n: tirx.Var, s: tirx.Var, t: tirx.Var) -> PrimExpr:
            flag = flags(b, t) if len(dims) == 2 else flags(b, s, t)
            return tirx.Select(flag > tirx.const(0, flags.dtype), shown, out)

        shape = [flags.shape[0], 1, 1 if len(dims) == 2 else flags.shape[1], flags.shape[-1]]
        return te.compute(prim_list(shape), element, name="padding")

    return ctx.te(padding, mask)


def _range_bias(ctx: Context, mask: Value, batch: PrimExpr, total: PrimExpr, hidden: float) -> relax.Expr:
    (count,) = tensor_shape(mask)
    starts = not ctx.equal(count, batch)
    if starts and not ctx.equal(count, ctx.simplify(batch * 2)):
        raise ConversionError(f"a mask of {count} numbers for a batch of {batch}: [B] and [2B] are taken")

    def padding(ends: te.Tensor, batch: PrimExpr, total: PrimExpr) -> te.Tensor:
        def element(b: tirx.Var, _n: tirx.Var, _s: tirx.Var, t: tirx.Var) -> PrimExpr:
            inside = t < ends(b).astype("int64")
            if starts:
                inside = tirx.And(inside, t >= ends(b + batch).astype("int64"))
            return tirx.Select(inside, tirx.const(0, "float32"), tirx.const(hidden, "float32"))

        return te.compute(prim_list([batch, 1, 1, total]), element, name="padding")

    return ctx.te(padding, mask, prim(batch), prim(total))
