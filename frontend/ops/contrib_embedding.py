"""com.microsoft.EmbedLayerNormalization: the sum of three embeddings, normalized.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, tensor_shape
from .elementwise import add
from .gather import inside
from .normalization import normalized


@converter("EmbedLayerNormalization", domain="com.microsoft")
def embed_layer_normalization(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """(normalized sum, tokens that the mask keeps in each row, the sum); ids count rows of the embeddings.

    Without position ids the place in the row stands for them.
    """
    given: list[Any] = [*inputs, None, None][:9]
    ids, segments, words, positions, kinds, scale, shift, mask, places = given
    dims = tensor_shape(ids)
    if (segments is None) != (kinds is None):
        raise ConversionError("segment ids and their embedding go together")
    total = add(ctx, _rows(ctx, words, ids), _positions(ctx, positions, dims) if places is None else
                _rows(ctx, positions, places))  # fmt: skip
    if kinds is not None:
        total = add(ctx, total, _rows(ctx, kinds, segments))
    result = normalized(ctx, total, scale, shift, 2, node.attr("epsilon", 1e-12))
    return [result, _kept(ctx, mask, dims), total][: node.output_count]


def _rows(ctx: Context, table: Value, ids: Value) -> relax.Expr:
    """Rows of ``table`` [rows, width] by number; numbers out of range are clamped."""

    def embedding(data: te.Tensor, rows: te.Tensor) -> te.Tensor:
        def element(b: tirx.Var, s: tirx.Var, h: tirx.Var) -> PrimExpr:
            return data(inside(rows(b, s), data.shape[0]), h)

        return te.compute([*rows.shape, data.shape[1]], element, name="embedding")

    return ctx.te(embedding, table, ids)


def _positions(ctx: Context, table: Value, dims: Sequence[PrimExpr]) -> relax.Expr:
    """The first rows of ``table``, as many as a row has tokens."""
    ctx.check(prim(dims[1]) <= prim(tensor_shape(table)[0]))

    def positions(data: te.Tensor, length: PrimExpr) -> te.Tensor:
        return te.compute([prim(1), prim(length), data.shape[1]], lambda _, s, h: data(s, h), name="positions")

    return ctx.te(positions, table, dims[1])


def _kept(ctx: Context, mask: Value | None, dims: Sequence[PrimExpr]) -> relax.Expr:
    """How many tokens of each row the mask keeps [batch], 0 without one."""
    if mask is not None:
        return ctx.emit(relax.op.sum(ctx.tensor(mask), 1))
    zero = tirx.const(0, "int32")
    return ctx.te(lambda shape: te.compute(prim_list(shape), lambda *_: zero, name="kept"), [dims[0]], name="kept")
