"""Sorting written out as loops, for TopK and its kin: no library function that a deployed artifact would lack.

Both routines order the positions along one axis, best first; of equal elements the one with the lower position comes
first. "Row" means one line of elements along that axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from .arith import prim
from .context import prim_list
from .values import PrimExpr

Better = Callable[[PrimExpr, PrimExpr], PrimExpr]
"""Whether the first value belongs before the second."""

INSERTED = 32
"""Up to so many elements wanted, they are kept in order while the row is read once; past that, all of it is sorted."""


@dataclass(frozen=True)
class Rows:
    """``outer`` x ``size`` x ``inner`` elements, sorted along the middle; ``wanted`` of each row are kept."""

    outer: PrimExpr
    size: PrimExpr
    inner: PrimExpr
    wanted: PrimExpr

    @staticmethod
    def along(dims: Sequence[PrimExpr], axis: int, wanted: PrimExpr) -> Rows:
        outer, inner = (reduce(lambda a, b: a * prim(b), part, prim(1)) for part in (dims[:axis], dims[axis + 1 :]))
        return Rows(outer, prim(dims[axis]), inner, prim(wanted))


def best_few(x: te.Tensor, axis: int, wanted: PrimExpr, better: Better) -> list[te.Tensor]:
    """The best ``wanted`` (few) of each row: values, and int64 positions. Each is inserted among the best so far."""
    rows = Rows.along(x.shape, axis, wanted)

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        source, values, places = (T.buffer_proxy(buffer) for buffer in (*ins, *outs))

        def fill(base: PrimExpr, out: PrimExpr) -> None:
            hole = _counter()
            with T.serial(prim(0), rows.size) as j:
                value = T.bind(source[base + j * rows.inner])
                last = out + (rows.wanted - 1) * rows.inner
                with T.If(tirx.if_then_else(j < rows.wanted, tirx.const(True), better(value, values[last]))), T.Then():
                    hole[0] = tirx.min(j, rows.wanted - 1)
                    before = lambda: values[out + (hole[0] - 1) * rows.inner]  # noqa: E731
                    with T.While(tirx.if_then_else(hole[0] > 0, better(value, before()), tirx.const(False))):
                        values[out + hole[0] * rows.inner] = before()
                        places[out + hole[0] * rows.inner] = places[out + (hole[0] - 1) * rows.inner]
                        hole[0] = hole[0] - 1
                    values[out + hole[0] * rows.inner] = value
                    places[out + hole[0] * rows.inner] = j

        with IRBuilder() as builder, _each_row(rows) as (base, out):
            fill(base, out)
        return builder.get()

    shape = prim_list([*x.shape[:axis], wanted, *x.shape[axis + 1 :]])
    return te.extern([shape, shape], [x], body, dtype=[str(x.dtype), "int64"], name="best_few")


def best_sorted(x: te.Tensor, axis: int, wanted: PrimExpr, better: Better) -> list[te.Tensor]:
    """Like ``best_few`` for any ``wanted``, with two scratch tensors after the results. A merge sort, bottom up."""
    rows = Rows.along(x.shape, axis, wanted)

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        source, values, places, order, merged = (T.buffer_proxy(buffer) for buffer in (*ins, *outs))

        def sort(base: PrimExpr) -> None:
            at = lambda position: base + position * rows.inner  # noqa: E731
            width, low = _counter(), _counter()
            with T.serial(prim(0), rows.size) as i:
                order[at(i)] = i
            width[0] = prim(1)
            with T.While(width[0] < rows.size):
                low[0] = prim(0)
                with T.While(low[0] < rows.size):
                    _merge(source, order, merged, at, low[0], width[0], rows.size, better)
                    low[0] = low[0] + 2 * width[0]
                with T.serial(prim(0), rows.size) as i:
                    order[at(i)] = merged[at(i)]
                width[0] = 2 * width[0]

        with IRBuilder() as builder, _each_row(rows) as (base, out):
            sort(base)
            with T.serial(prim(0), rows.wanted) as i:
                place = T.bind(order[base + i * rows.inner])
                places[out + i * rows.inner] = place
                values[out + i * rows.inner] = source[base + place * rows.inner]
        return builder.get()

    shape = prim_list([*x.shape[:axis], wanted, *x.shape[axis + 1 :]])
    shapes = [shape, shape, prim_list(x.shape), prim_list(x.shape)]
    return te.extern(shapes, [x], body, dtype=[str(x.dtype), "int64", "int64", "int64"], name="best_sorted")


def _merge(
    source: Any, order: Any, merged: Any, at: Callable, low: PrimExpr, width: PrimExpr, size: PrimExpr, better: Better
) -> None:
    """Merge the sorted runs [low, low + width) and [low + width, low + 2 width) of ``order`` into ``merged``."""
    low, middle = T.bind(low), T.bind(tirx.min(low + width, size))
    high = T.bind(tirx.min(middle + width, size))
    left, right = _counter(), _counter()
    left[0], right[0] = low, middle
    with T.serial(prim(0), high - low) as step:
        i = T.bind(low + step)
        later = better(source[at(order[at(right[0])])], source[at(order[at(left[0])])])
        from_right = tirx.if_then_else(
            left[0] >= middle, tirx.const(True), tirx.if_then_else(right[0] >= high, tirx.const(False), later)
        )
        with T.If(from_right):
            with T.Then():
                merged[at(i)] = order[at(right[0])]
                right[0] = right[0] + 1
            with T.Else():
                merged[at(i)] = order[at(left[0])]
                left[0] = left[0] + 1


def _counter() -> Any:
    return T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))


@contextmanager
def _each_row(rows: Rows) -> Any:
    """A parallel loop over the rows; yields where a row starts in the input and in the output."""
    with T.parallel(prim(0), rows.outer * rows.inner) as row:
        outer, inner = T.bind(tirx.truncdiv(row, rows.inner)), T.bind(tirx.truncmod(row, rows.inner))
        yield (
            T.bind(outer * rows.size * rows.inner + inner),
            T.bind(outer * rows.wanted * rows.inner + inner),
        )
