"""com.microsoft.RotaryEmbedding: pairs of numbers of a head turned by an angle that grows with the token's position.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, after Su et al., "RoFormer" (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..attention import joined_heads, split_heads
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape
from .gather import inside


@converter("RotaryEmbedding", domain="com.microsoft")
def rotary_embedding(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """[B, S, N * H] or [B, N, S, H]; positions are [B, S], or [1] where the first token's place counts on from."""
    data, positions, cosines, sines = inputs
    if node.attr("is_packed_batching", 0):
        raise ConversionError("packed batches are not supported")
    if node.attr("scale", 1.0) != 1.0:
        raise ConversionError(f"scale {node.attr('scale')} is not supported; 1.0 is")
    turned = 2 * _width(tensor_shape(cosines)[-1])
    interleaved = bool(node.attr("interleaved", 0))
    if rank(data) == 4:
        return rotated(ctx, data, positions, cosines, sines, interleaved)
    width = _width(tensor_shape(data)[-1])
    heads = node.attr("num_heads", 0) if node.attr("rotary_embedding_dim", 0) else width // turned
    if not heads:
        raise ConversionError("num_heads is needed where only a part of each head is turned")
    return joined_heads(ctx, rotated(ctx, split_heads(ctx, data, heads), positions, cosines, sines, interleaved))


def _width(dim: PrimExpr) -> int:
    width = as_int(dim)
    if width is None:
        raise ConversionError("the widths of heads and of the tables must be known when compiling")
    return width


def rotated(ctx: Context, data: Value, positions: Value, cosines: Value, sines: Value, interleaved: bool) -> relax.Expr:
    """[B, N, S, H] with the first 2 * R numbers of each head turned; the tables are [positions, R].

    A pair lies R apart, or side by side (``interleaved``). Positions out of the tables are clamped to their ends.
    """
    half = _width(tensor_shape(cosines)[-1])
    offset, dtype, dims = rank(positions) == 1, tensor_dtype(data), tensor_shape(data)
    if not offset:
        batch, tokens = tensor_shape(positions)
        same_dim(ctx, [batch, dims[0]], "the batch sizes of positions and data")
        same_dim(ctx, [tokens, dims[2]], "the lengths of positions and data")

    def rotary(x: te.Tensor, place: te.Tensor, cosine: te.Tensor, sine: te.Tensor) -> te.Tensor:
        def row(b: PrimExpr, s: PrimExpr) -> PrimExpr:
            at = place(0) + s.astype(place.dtype) if offset else place(b, s)
            return inside(at, cosine.shape[0])

        def element(b: tirx.Var, n: tirx.Var, s: tirx.Var, h: tirx.Var) -> PrimExpr:
            at = row(b, s)
            first, pair, partner = _pair(h, half, interleaved)
            # What lies behind the turned part reads the last pair, and drops it.
            inner = tirx.min(pair, prim(half - 1))
            c, d = cosine(at, inner).astype("float32"), sine(at, inner).astype("float32")
            own = x(b, n, s, h).astype("float32")
            other = x(b, n, s, tirx.min(partner, prim(2 * half - 1))).astype("float32")
            value = tirx.Select(first, own * c - other * d, own * c + other * d)
            return tirx.Select(h < 2 * half, value, own).astype(dtype)

        return te.compute(x.shape, element, name="rotary")

    return ctx.te(rotary, data, positions, cosines, sines)


def _pair(h: PrimExpr, half: int, interleaved: bool) -> tuple[PrimExpr, PrimExpr, PrimExpr]:
    """(whether ``h`` is the first of its pair, the pair's number, where the other one is)."""
    if interleaved:
        first = tirx.EQ(tirx.floormod(h, 2), prim(0))
        return first, tirx.floordiv(h, 2), tirx.Select(first, h + 1, h - 1)
    first = h < half
    return first, tirx.Select(first, h, h - half), tirx.Select(first, h + half, h - half)
