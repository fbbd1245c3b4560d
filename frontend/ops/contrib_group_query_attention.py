"""com.microsoft.GroupQueryAttention: causal attention where several query heads share a head of keys and values.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, after Ainslie et al., "GQA" (2023). The
numbers of valid keys, ``seqlens_k`` + 1, differ between the rows of a batch; in the first run (as many tokens as keys
in all) nothing is past. Letters as in ``frontend.attention``; G query heads share one of K heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import maximum, prim
from ..attention import LOWEST, attended, scale_of, scores_of, split_heads
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, tensor_shape
from .activation import number
from .contrib_rotary import rotated
from .elementwise import add, divide, multiply
from .precision import cast_to
from .slice import Cut, take_cuts

_REFUSED = {
    "smooth_softmax": (-1, 0), "qk_output": (0,), "k_quant_type": ("NONE",), "v_quant_type": ("NONE",),
    "sliding_window_cache": (0,), "kv_cache_bit_width": (0,), "causal": (1,),
}  # fmt: skip
_TAKEN = ("query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length", "cos_cache",
          "sin_cache", "position_ids", "attention_bias")  # fmt: skip


@converter("GroupQueryAttention", domain="com.microsoft")
def group_query_attention(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """(output [B, S, N * H], keys and values so far [B, K, T, H])."""
    given: list[Any] = [*inputs, *[None] * 11]
    if any(value is not None for value in given[len(_TAKEN) :]):
        raise ConversionError(f"of the inputs {', '.join(_TAKEN)} are taken, and none behind them")
    for name, taken in _REFUSED.items():
        if node.attr(name, taken[0]) not in taken:
            raise ConversionError(f"{name} = {node.attr(name)} is not supported; {taken[0]} is")
    query, key, value, past_key, past_value, lengths, total, cosines, sines, positions, bias = given[: len(_TAKEN)]
    query, key, value = _heads(ctx, node, query, key, value)
    tokens = tensor_shape(query)[2]
    (last,) = ctx.ints(total, "total_sequence_length")
    if as_int(last) is None:
        ctx.check(prim(last) >= 0)
    past = _past_lengths(ctx, lengths, tokens, last)
    if node.attr("do_rotary", 0):
        where = _positions(ctx, past, tokens) if positions is None else positions
        interleaved = bool(node.attr("rotary_interleaved", 0))
        query, key = (rotated(ctx, part, where, cosines, sines, interleaved) for part in (query, key))
    size = last if past_key is None else ctx.compact(maximum(tensor_shape(past_key)[2], last))
    key, value = (_present(ctx, old, new, past, size) for old, new in ((past_key, key), (past_value, value)))
    return [_attend(ctx, node, query, key, value, past, bias), key, value][: node.output_count]


def _heads(ctx: Context, node: Node, query: Value, key: Value | None, value: Value | None) -> list[relax.Expr]:
    """Query [B, N, S, H], keys and values [B, K, S, H]; without keys the query holds all three."""
    heads, shared = node.attr("num_heads"), node.attr("kv_num_heads")
    if heads % shared:
        raise ConversionError(f"{heads} query heads can't share {shared} heads of keys and values")
    if key is None:
        width = as_int(tensor_shape(query)[-1])
        if width is None or width % (heads + 2 * shared):
            raise ConversionError(f"{width} numbers are no {heads} heads of queries, {shared} of keys and of values")
        size = width // (heads + 2 * shared)
        starts, counts = (0, heads, heads + shared), (heads, shared, shared)
        parts = [take_cuts(ctx, query, {2: Cut(a * size, n * size, 1)}) for a, n in zip(starts, counts, strict=True)]
        query, key, value = parts
    assert value is not None
    return [split_heads(ctx, part, n) for part, n in ((query, heads), (key, shared), (value, shared))]


def _past_lengths(ctx: Context, lengths: Value, tokens: PrimExpr, last: PrimExpr) -> relax.Expr:
    """How many past keys each row of the batch has [B] (int64)."""
    flat = ctx.reshape(lengths, [tensor_shape(lengths)[0]])

    def past(lengths: te.Tensor, tokens: PrimExpr, last: PrimExpr) -> te.Tensor:
        def element(b: tirx.Var) -> PrimExpr:
            before = lengths(b).astype("int64") + prim(1) - tokens
            return tirx.Select(tirx.EQ(tokens, last), prim(0), tirx.max(before, prim(0)))

        return te.compute([lengths.shape[0]], element, name="past")

    return ctx.te(past, flat, prim(tokens), prim(last))


def _positions(ctx: Context, past: relax.Expr, tokens: PrimExpr) -> relax.Expr:
    def positions(past: te.Tensor, tokens: PrimExpr) -> te.Tensor:
        return te.compute([past.shape[0], tokens], lambda b, s: past(b) + s, name="positions")

    return ctx.te(positions, past, prim(tokens))


def _present(ctx: Context, old: Value | None, new: relax.Expr, past: relax.Expr, size: PrimExpr) -> relax.Expr:
    """A row's past keys, then its new ones, then zeros: [B, K, ``size``, H]."""

    def present(new: te.Tensor, past: te.Tensor, size: PrimExpr, *rest: te.Tensor) -> te.Tensor:
        batch, heads, tokens, width = new.shape
        zero = tirx.const(0, new.dtype)

        def element(b: tirx.Var, n: tirx.Var, t: tirx.Var, h: tirx.Var) -> PrimExpr:
            fresh = t - past(b)
            tail = tirx.if_then_else(tirx.And(fresh >= 0, fresh < tokens), new(b, n, fresh, h), zero)
            if not rest:
                return tail
            # The lengths come from data: what they claim beyond the cache is not read.
            held = tirx.And(fresh < 0, t < rest[0].shape[2])
            return tirx.if_then_else(held, rest[0](b, n, t, h), tail)

        return te.compute([batch, heads, size, width], element, name="present")

    return ctx.te(present, new, past, prim(size), *([] if old is None else [old]))


def _attend(
    ctx: Context, node: Node, query: relax.Expr, key: Value, value: Value, past: relax.Expr, bias: Value | None
) -> Value:
    """The G query heads that share keys are rows of one product: [B, K, G * S, H] x [B, K, T, H]."""
    batch, heads, tokens, width = tensor_shape(query)
    shared, total = tensor_shape(key)[1:3]
    group = int(heads) // int(shared)
    rows = ctx.reshape(query, [batch, shared, ctx.simplify(group * tokens), width])
    scores: Any = scores_of(ctx, rows, key, scale_of(node.attr("scale"), width))
    scores = ctx.reshape(scores, [batch, heads, tokens, total])
    softcap = node.attr("softcap", 0.0)
    if softcap:
        capped = ctx.emit(relax.op.tanh(divide(ctx, scores, number(softcap, scores))))
        scores = multiply(ctx, capped, number(softcap, scores))
    if bias is not None:
        scores = add(ctx, scores, cast_to(ctx, ctx.tensor(bias), "float32"))
    scores = add(ctx, scores, _visible(ctx, past, tokens, total, node.attr("local_window_size", -1)))
    scores = ctx.reshape(scores, [batch, shared, ctx.simplify(group * tokens), total])
    result = attended(ctx, ctx.tensor(scores), value)
    parted = ctx.reshape(result, [batch, heads, tokens, width])
    moved = ctx.emit(relax.op.permute_dims(ctx.tensor(parted), [0, 2, 1, 3]))
    return ctx.reshape(moved, [batch, tokens, ctx.simplify(heads * width)])


def _visible(ctx: Context, past: relax.Expr, tokens: PrimExpr, total: PrimExpr, window: int) -> relax.Expr:
    """[B, 1, S, T]: 0 for the keys up to a token's own, or the last ``window`` of them (-1: all)."""

    def visible(past: te.Tensor, tokens: PrimExpr, total: PrimExpr) -> te.Tensor:
        def element(b: tirx.Var, _n: tirx.Var, s: tirx.Var, t: tirx.Var) -> PrimExpr:
            own = past(b) + s
            seen = t <= own
            if window > 0:
                seen = tirx.And(seen, t > own - window)
            return tirx.Select(seen, tirx.const(0, "float32"), tirx.const(LOWEST, "float32"))

        return te.compute(prim_list([past.shape[0], 1, tokens, total]), element, name="visible")

    return ctx.te(visible, past, prim(tokens), prim(total))
