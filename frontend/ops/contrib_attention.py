"""com.microsoft.Attention and MultiHeadAttention.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from ...errors import ConversionError
from ..attention import attend, causal_bias, padding_bias, scale_of, split_heads, with_past
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, rank, tensor_shape
from .elementwise import add
from .matmul import matmul
from .slice import Cut, take_cuts

DOMAIN = "com.microsoft"
HIDDEN = -10000.0
"""Added to the scores of what a mask hides, unless the node says otherwise."""


@converter("Attention", domain=DOMAIN)
def attention(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Self-attention, with the projections of query, key and value as one weight. ``present`` holds keys and values."""
    given: list[Any] = [*inputs, *[None] * 5][:7]
    data, weight, bias, mask, past, scores_bias, past_length = given
    refuse(node, {"do_rotary": 0, "past_present_share_buffer": 0})
    if past_length is not None:
        raise ConversionError("past_sequence_length belongs to shared buffers, which are not supported")
    projected = matmul(ctx, data, weight)
    if bias is not None:
        projected = add(ctx, projected, bias)
    parts = _split(ctx, projected, node.attr("qkv_hidden_sizes"))
    query, key, value = (split_heads(ctx, part, node.attr("num_heads")) for part in parts)
    if past is not None:
        old = [ctx.reshape(take_cuts(ctx, past, {0: Cut(i, 1, 1)}), tensor_shape(past)[1:]) for i in range(2)]
        key, value = with_past(ctx, old[0], key), with_past(ctx, old[1], value)
    result = _attend(ctx, node, (query, key, value), tensor_shape(query)[2], mask, scores_bias)
    if not node.has_output(1):
        return [result]
    shape = tensor_shape(key)
    stacked = [ctx.tensor(ctx.reshape(part, [1, *shape])) for part in (key, value)]
    return [result, ctx.emit(relax.op.concat(stacked, 0))]


@converter("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Attention of projected tensors; also packed ones: [B, S, N, 3, H], or keys and values as [B, L, N, 2, H]."""
    given: list[Any] = [*inputs, *[None] * 9][:10]
    query, key, value, bias, mask, scores_bias, past_key, past_value, past_length, indirection = given
    if past_length is not None or indirection is not None:
        raise ConversionError("shared buffers (past_sequence_length, cache_indirection) are not supported")
    if node.has_output(3):
        raise ConversionError("the output qk is not supported")
    query, key, value = _projected(ctx, node.attr("num_heads"), query, key, value, bias)
    new: PrimExpr = tensor_shape(key)[2]
    key, value = with_past(ctx, past_key, key), with_past(ctx, past_value, value)
    return [_attend(ctx, node, (query, key, value), new, mask, scores_bias), key, value][: node.output_count]


def refuse(node: Node, taken: dict[str, Any]) -> None:
    """Attributes that ask for more than what is built."""
    for name, value in taken.items():
        if node.attr(name, value) != value:
            raise ConversionError(f"{name} = {node.attr(name)} of {node.op_type} is not supported; {value} is")


def _split(ctx: Context, projected: Value, sizes: Sequence[int] | None) -> list[Value]:
    """Query, key and value, beside one another in the last dim."""
    width = as_int(tensor_shape(projected)[-1])
    if sizes is None:
        if width is None or width % 3:
            raise ConversionError(f"{width} numbers are no query, key and value of one size")
        sizes = [width // 3] * 3
    starts = [sum(sizes[:i]) for i in range(3)]
    return [take_cuts(ctx, projected, {2: Cut(start, size, 1)}) for start, size in zip(starts, sizes, strict=True)]


def _attend(
    ctx: Context,
    node: Node,
    parts: tuple[relax.Expr, relax.Expr, relax.Expr],
    new: PrimExpr,
    mask: Value | None,
    bias: Value | None,
) -> Value:
    query, key, value = parts
    batch, _, tokens, width = tensor_shape(query)
    total: PrimExpr = tensor_shape(key)[2]
    biases = [] if bias is None else [bias]
    if mask is not None:
        biases.append(padding_bias(ctx, mask, batch, total, node.attr("mask_filter_value", HIDDEN)))
    if node.attr("unidirectional", 0):
        biases.append(causal_bias(ctx, tokens, total, new))
    return attend(ctx, query, key, value, scale_of(node.attr("scale"), width), biases)


def _projected(
    ctx: Context, heads: int, query: Value, key: Value | None, value: Value | None, bias: Value | None
) -> list[relax.Expr]:
    """Query, key and value as [B, N, ..., H], with their part of the bias."""
    if rank(query) == 5:
        parts: list[Value] = _unpacked(ctx, query, 3)
    elif key is not None and rank(key) == 5:
        parts = [query, *_unpacked(ctx, key, 2)]
    elif key is not None and value is not None:
        parts = [query, key, value]
    else:
        raise ConversionError("key and value are needed where the query isn't packed")
    starts: PrimExpr = 0
    result = []
    for part in parts:
        if rank(part) == 4:  # from a cache: heads come first, and no bias is added
            result.append(ctx.tensor(part))
            continue
        width = tensor_shape(part)[-1]
        if bias is not None:
            part = add(ctx, part, take_cuts(ctx, bias, {0: Cut(starts, width, 1)}))
            starts = starts + width
        result.append(split_heads(ctx, part, heads))
    return result


def _unpacked(ctx: Context, packed: Value, count: int) -> list[Value]:
    """[B, S, N, count, H] as ``count`` tensors of [B, S, N * H]."""
    batch, tokens, heads, _, width = tensor_shape(packed)
    shape = [batch, tokens, ctx.simplify(heads * width)]
    return [ctx.reshape(take_cuts(ctx, packed, {3: Cut(i, 1, 1)}), shape) for i in range(count)]
