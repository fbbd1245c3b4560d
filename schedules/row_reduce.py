"""Reductions along rows: sums and maxima kept in vector lanes, whatever the length of a row.

A reduction over the last axis is a scalar loop, because each step needs the one before. Here it is written with a
vector of running results instead: blocks of four vectors, then single vectors, then one that ends where the row does.
The pieces are stages of one tensor expression, so lengths may be symbolic and loads need no guard each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.sym import Analyzer

from .blocks import TEMPLATE_KEY, as_int

Expr = Any
RowFunction = Callable[..., Expr]
"""Takes the row's indices and the position in the row, gives the element to reduce."""

UNROLL = 4
"""Vectors of running results: an addition takes 4 cycles, and one vector alone would wait for it each time."""


NAME = "row_reduce"
ROWS_KEY = "rows"
"""Annotation of every stage: how many leading axes are rows, which one loop nest goes through for all stages."""


def stage(shape: list[Expr], compute: Callable[..., Expr], name: str, rows: int, last: bool = False) -> te.Tensor:
    """One stage of a row-wise function; ``last`` marks the one that the schedule template is found by."""
    attrs: dict[str, Any] = {ROWS_KEY: rows}
    if last:
        attrs[TEMPLATE_KEY] = NAME
    return te.compute([_int64(dim) for dim in shape], compute, name=name, attrs=attrs)


def _int64(value: Expr) -> Expr:
    """Indices of one width: a vector of them stays one contiguous range."""
    return tirx.const(value, "int64") if isinstance(value, int) else value


@dataclass(frozen=True)
class Reducer:
    """``combine`` must be associative and commutative up to rounding, with ``identity`` its neutral element."""

    name: str
    combine: Callable[[Expr, Expr], Expr]
    identity: Callable[[str], Expr]

    def over(self, value: Expr, axis: Any) -> Expr:
        return te.comm_reducer(self.combine, self.identity, self.name)(value, axis)


def is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def _lowest(dtype: str) -> Expr:
    return tirx.const(-math.inf, dtype) if is_float(dtype) else tirx.min_value(dtype)


def _highest(dtype: str) -> Expr:
    return tirx.const(math.inf, dtype) if is_float(dtype) else tirx.max_value(dtype)


SUM = Reducer("sum", lambda a, b: a + b, lambda dtype: tirx.const(0, dtype))
PRODUCT = Reducer("prod", lambda a, b: a * b, lambda dtype: tirx.const(1, dtype))
# One instruction each: with a NaN the result is anything.
MAX = Reducer("max", lambda a, b: tirx.max(a, b), _lowest)
MIN = Reducer("min", lambda a, b: tirx.min(a, b), _highest)


def reduce_rows(
    value: RowFunction,
    rows: list[Expr],
    length: Expr,
    dtype: str,
    reducer: Reducer,
    lanes: int,
    name: str,
    rest: te.Tensor | None = None,
) -> te.Tensor:
    """[*rows] of ``dtype``: ``value(*row, k)`` reduced over ``0 <= k < length``.

    ``lanes`` is the width of a vector in elements of ``dtype``. ``rest`` is one more vector to take in, [*rows, lanes];
    ``length`` is then a multiple of ``lanes``.
    """
    if rest is None:
        length, rest = whole_vectors(value, rows, length, lanes, reducer.identity(dtype), f"{name}_rest")
    blocks, left = _divide(length, lanes * UNROLL)
    vectors, few = _divide(left, lanes)
    parts: list[Callable[..., Expr]] = []
    if blocks != 0:
        first = _lanes_of(value, rows, blocks, lanes * UNROLL, 0, reducer, f"{name}_blocks")
        parts += [lambda *index, i=i: first(*index[:-1], index[-1] + i * lanes) for i in range(UNROLL)]
    if vectors != 0:
        single = _lanes_of(value, rows, vectors, lanes, blocks * lanes * UNROLL, reducer, f"{name}_vectors")
        parts.append(lambda *index: single(*index))
    if rest is not None:
        parts.append(lambda *index: rest(*index))
    if parts:
        folded = stage([*rows, lanes], lambda *index: _tree(parts, index, reducer), f"{name}_lanes", len(rows))
        ends = [lambda *row, i=i: folded(*row, i) for i in _bit_reversed(lanes)]
    else:
        ends = [lambda *row, i=i: value(*row, i) for i in range(few)]
    return stage(rows, lambda *row: _tree(ends, row, reducer), name, len(rows))


def whole_vectors(
    value: RowFunction, rows: list[Expr], length: Expr, lanes: int, identity: Expr, name: str
) -> tuple[Expr, te.Tensor | None]:
    """(elements in whole vectors, one more vector [*rows, lanes] with what is left over, None if nothing can be).

    The last vector ends where the row does; its lanes that the whole vectors have covered hold ``identity``. So no
    element is left to a scalar loop, but for rows of known length below one vector, which count as whole.
    """
    known = as_int(length)
    if known is not None and (known < lanes or known % lanes == 0):
        return known, None
    if _divide(length, lanes)[1] == 0:
        return length, None
    whole = known // lanes * lanes if known is not None else tirx.floordiv(length, lanes) * lanes

    def last(*index: tirx.Var) -> Expr:
        *row, lane = index
        at = lane - lanes + length
        within = tirx.Select(at >= whole, value(*row, at), identity)
        if known is not None:
            return within
        # A short row has no element for the first lanes to load, an empty one none at all.
        clamped = tirx.Select(at >= whole, value(*row, tirx.max(at, tirx.const(0, "int64"))), identity)
        short = tirx.if_then_else(length > 0, clamped, identity)
        return tirx.if_then_else(length >= lanes, within, short)

    return whole, stage([*rows, lanes], last, name, len(rows))


def _divide(length: Expr, by: int) -> tuple[Expr, Expr]:
    """(quotient, remainder), plain ints where known: the remainder of ``16 * n`` by 16 is, and so needs no loop.

    A loop that has no iterations whatever the sizes would keep a whole function from being scheduled, and its sum from
    being initialised.
    """
    known = as_int(length)
    if known is not None:
        return divmod(known, by)
    simplify = Analyzer().simplify
    quotient, remainder = simplify(tirx.floordiv(length, by)), simplify(tirx.floormod(length, by))
    fixed = as_int(remainder)
    return quotient, remainder if fixed is None else fixed


def _lanes_of(
    value: RowFunction, rows: list[Expr], count: Expr, width: int, start: Expr, reducer: Reducer, name: str
) -> te.Tensor:
    """[*rows, width]: every ``width``-th element from ``start`` on, ``count`` of them a lane."""
    k = te.reduce_axis((_int64(0), _int64(count)), name="k")

    def lane(*index: tirx.Var) -> Expr:
        return reducer.over(value(*index[:-1], start + k * width + index[-1]), k)

    return stage([*rows, width], lane, name, len(rows))


def _tree(parts: list[Callable[..., Expr]], index: Any, reducer: Reducer) -> Expr:
    """All parts combined pairwise: short chains, and sums that round less than one after the other would."""
    values = [part(*index) for part in parts]
    while len(values) > 1:
        pairs = [reducer.combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]


def _bit_reversed(count: int) -> list[int]:
    """The order in which pairs of neighbours are halves of the vector: 0, n/2, n/4, ... so the tree is shuffles."""
    order = [0]
    while len(order) < count:
        order = [2 * i for i in order] + [2 * i + 1 for i in order]
    return order
