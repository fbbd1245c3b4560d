"""Tables of a resize's taps: constants where all is known, else small tensors that are computed when the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context
from ..resampling import Method, Stretch, constant_tables, expressions, wide_tap, wide_taps
from ..values import PrimExpr, Value


@dataclass(frozen=True)
class Entry:
    """One number of a vector that is read when the model runs."""

    vector: relax.Expr
    index: int


def tap_tables(
    ctx: Context, size: PrimExpr, resized: PrimExpr, stretch: Stretch, method: Method
) -> tuple[Value, Value]:
    """Places (int64) and weights (float32) of one axis, of shape (resized, taps).

    The number of taps is known when compiling, but for antialiasing with a scale that is not.
    """
    entries = _entries(stretch)
    if known(size, resized) and not entries:
        return constant_tables(int(size), int(resized), stretch, method)
    if method.antialias and (isinstance(stretch.scale, Entry) or (stretch.scale is None and not known(size, resized))):
        return _wide_tables(ctx, size, resized, stretch, method)

    def table(which: int, name: str) -> Value:
        def resize_table(size: PrimExpr, resized: PrimExpr, vectors: list[te.Tensor]) -> te.Tensor:
            known_now = _filled(stretch, vectors)
            count = len(expressions(size, resized, known_now, method, prim(0)))

            def element(i: tirx.Var, tap: tirx.Var) -> PrimExpr:
                found = [item[which] for item in expressions(size, resized, known_now, method, i)]
                value = found[-1]
                for k in range(count - 2, -1, -1):
                    value = tirx.Select(tap == k, found[k], value)
                return value

            return te.compute((prim(resized), prim(count)), element, name=name)

        return ctx.te(resize_table, size, resized, [entry.vector for entry in entries], name=name)

    return table(0, "resize_places"), table(1, "resize_weights")


def _entries(stretch: Stretch) -> list[Entry]:
    return [number for number in (stretch.scale, *stretch.roi) if isinstance(number, Entry)]


def _filled(stretch: Stretch, vectors: list[te.Tensor]) -> Stretch:
    """The stretch with scalar expressions in place of entries; ``vectors`` are those of ``_entries``, in order."""
    rest = list(vectors)

    def number(value: Any) -> Any:
        return rest.pop(0)(prim(value.index)) if isinstance(value, Entry) else value

    scale = number(stretch.scale)
    return Stretch(stretch.axis, scale, (number(stretch.roi[0]), number(stretch.roi[1])))


def _wide_tables(
    ctx: Context, size: PrimExpr, resized: PrimExpr, stretch: Stretch, method: Method
) -> tuple[Value, Value]:
    """A smaller output widens the filter: the number of taps is read first, weights are divided by their sum."""
    if method.coordinates == "tf_crop_and_resize":
        raise ConversionError("antialias with tf_crop_and_resize needs a scale that is known when compiling")
    vectors = [entry.vector for entry in _entries(stretch)]

    def tap_count(size: PrimExpr, resized: PrimExpr, vectors: list[te.Tensor]) -> te.Tensor:
        count = wide_taps(size, resized, _filled(stretch, vectors), method)
        return te.compute((prim(1),), lambda _: count, name="tap_count")

    (count,) = ctx.ints(ctx.te(tap_count, size, resized, vectors), "the number of taps")
    ctx.assume_dim(count)

    def table(which: int, name: str) -> Value:
        def wide_table(size: PrimExpr, resized: PrimExpr, count: PrimExpr, vectors: list[te.Tensor]) -> te.Tensor:
            known_now = _filled(stretch, vectors)

            def element(i: tirx.Var, tap: tirx.Var) -> PrimExpr:
                return wide_tap(size, resized, known_now, method, i, tap, count)[which]

            return te.compute((prim(resized), count), element, name=name)

        return ctx.te(wide_table, size, resized, count, vectors, name=name)

    def total(weights: te.Tensor) -> te.Tensor:
        tap = te.reduce_axis((0, weights.shape[1]), "tap")
        return te.compute(weights.shape[:1], lambda i: te.sum(weights(i, tap), axis=tap), name="total")

    def shares(weights: te.Tensor, totals: te.Tensor) -> te.Tensor:
        return te.compute(weights.shape, lambda i, tap: weights(i, tap) / totals(i), name="resize_weights")

    weights = table(1, "tap_weights")
    return table(0, "resize_places"), ctx.te(shares, weights, ctx.te(total, weights))
