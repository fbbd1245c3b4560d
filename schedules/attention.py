"""Scaled dot-product attention in one kernel: rows of queries in blocks, their scores kept in the nearest cache.

A task is one head and a stretch of its query rows. It packs the head's keys once, sixteen to a vector. Each block of
rows then computes its scores in register tiles, with whatever the graph does to them (scale, mask, cap) applied as a
tile is written; the softmax runs over the block where it lies, and its product with the values in register tiles again.
So the matrix of all scores never exists: that of one block does. Rows too few for a block are computed one by one,
from keys as they lie.

The arithmetic is the graph's: the maximum of a row is subtracted, and a row's exponentials are summed before the
product is divided by the sum. Rows that hold NaN, +inf or -inf alone are NaN, as in the operators one after the other.
(Blocks of rows: Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ..targets import Target
from .blocks import as_int
from .tiles import BLOCK, accumulators, registers_per_block

Expr = Any
Scores = Callable[[Expr, Callable[[int], Expr]], Expr]
"""Takes a score, and what reads the i-th further tensor at the score's place; gives the score after all operators."""

NAME = "attention"
CHUNK = 96
"""Rows of queries in a task, about: they pay for packing the keys, and two cores have enough tasks to share."""


@dataclass(frozen=True)
class Axis:
    """The index along one axis of a tensor: ``at[logical] // div % mod``; 0 where ``logical`` is None."""

    logical: int | None
    div: int = 1
    mod: int | None = None

    def index(self, at: Sequence[Expr]) -> Expr:
        if self.logical is None:
            return _int(0)
        value = at[self.logical]
        if self.div != 1:
            value = tirx.truncdiv(value, _int(self.div))
        return value if self.mod is None else tirx.truncmod(value, _int(self.mod))


Operand = tuple[Axis, ...]
"""How a tensor is read, an entry for each of its axes. Logical axes are those of batch and heads, and two more:
[..., row, element] for queries and for the result, [..., key, element] for keys and values, [..., row, key] for what
is done to scores."""


def plain(rank: int) -> Operand:
    """A tensor whose axes are the logical ones."""
    return tuple(Axis(i) for i in range(rank))


@dataclass(frozen=True)
class Attention:
    """What one kernel computes; sizes come with the tensors.

    ``before`` is what the graph does to scores, ``after`` to their softmax (None: nothing); ``others`` are the tensors
    that they read. ``result`` orders the result's axes, ``tile`` is what ``tile_for`` gives.
    """

    query: Operand
    key: Operand
    value: Operand
    others: tuple[Operand, ...]
    before: Scores
    after: Scores | None
    result: tuple[int, ...]
    tile: tuple[int, int, int]


def tile_for(value_width: int, target: Target) -> tuple[int, int, int]:
    """(rows of a block, 16-lane blocks of keys in its tile, 16-lane blocks of values in its tile)."""
    limit = min(24, accumulators(target)) // registers_per_block(target)
    blocks = -(-value_width // BLOCK)
    wide = max(n for n in (1, 2, 3, 4) if blocks % n == 0 and n * 3 <= limit)
    rows = min(12, limit // wide)
    return rows, max(1, limit // rows), wide


def attention(query: te.Tensor, key: te.Tensor, value: te.Tensor, *others: te.Tensor, plan: Attention) -> te.Tensor:
    """``after(softmax(before(Q x K^T))) x V``: [..., S, D] x [..., T, D] x [..., T, E] to [..., S, E] in float32."""
    sizes = Sizes.of(plan, query, key, value)

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        with IRBuilder() as builder:
            _Kernel(plan, sizes, list(ins), outs[0]).emit()
        return builder.get()

    shape = [*sizes.batch, sizes.rows, sizes.value_width]
    ordered = [_int(shape[axis]) for axis in plan.result]
    return te.extern([ordered], [query, key, value, *others], body, dtype="float32", name=NAME)


@dataclass(frozen=True)
class Sizes:
    """Dims of the problem as int64 expressions; ``depth`` (of a query) and ``value_width`` are known."""

    batch: list[Expr]
    rows: Expr
    keys: Expr
    depth: int
    value_width: int

    @staticmethod
    def of(plan: Attention, query: te.Tensor, key: te.Tensor, value: te.Tensor) -> Sizes:
        rank = len(plan.result)

        def size(tensor: te.Tensor, operand: Operand, logical: int) -> Expr:
            return next(
                (tensor.shape[i] for i, axis in enumerate(operand) if axis.logical == logical and axis.div == 1), 1
            )

        depth, width = as_int(size(query, plan.query, rank - 1)), as_int(size(value, plan.value, rank - 1))
        assert depth is not None and width is not None
        batch = [_int(size(query, plan.query, i)) for i in range(rank - 2)]
        rows, keys = _int(size(query, plan.query, rank - 2)), _int(size(key, plan.key, rank - 2))
        return Sizes(batch, rows, keys, depth, width)


class _Kernel:
    """Emits the loops of one task after another into the IR builder at work."""

    def __init__(self, plan: Attention, sizes: Sizes, ins: list[Any], out: Any):
        self.plan, self.sizes, self.out = plan, sizes, out
        self.query, self.key, self.value, *self.others = ins
        self.tile, self.key_blocks, self.value_blocks = plan.tile
        self.depth = sizes.depth
        self.padded = -(-sizes.value_width // BLOCK) * BLOCK
        self.blocks = tirx.truncdiv(sizes.keys + (BLOCK - 1), _int(BLOCK))
        self.whole = tirx.truncdiv(sizes.keys, _int(BLOCK))
        self.at: list[Expr] = []
        self.keys: Any = None
        self.values: Any = None
        self.scores: Any = None

    def emit(self) -> None:
        rows = self.sizes.rows
        known = as_int(rows)
        chunk = self.tile * max(1, CHUNK // self.tile)
        chunks = tirx.truncdiv(rows + (chunk - 1), _int(chunk))
        tasks = chunks
        for dim in self.sizes.batch:
            tasks = tasks * dim
        with T.parallel(_int(0), tasks) as task:
            first = T.bind(tirx.truncmod(task, chunks) * chunk)
            self._locate(T.bind(tirx.truncdiv(task, chunks)))
            count = T.bind(tirx.min(_int(chunk), rows - first))
            rest = T.bind(tirx.truncmod(count, _int(self.tile)))
            # A block that is a third full costs about what its rows would alone.
            one_more = tirx.Select(rest * 3 > self.tile, _int(1), _int(0))
            tiles = T.bind(tirx.truncdiv(count, _int(self.tile)) + one_more)
            self.scores = _scratch(self.blocks * (self.tile * BLOCK))
            self._pad_values()
            if known is None or known * 3 > self.tile:
                with T.If(tiles > 0), T.Then():
                    self._pack_keys()
                    with T.serial(_int(0), tiles) as tile:
                        self._block(T.bind(first + tile * self.tile), self.tile)
            with T.serial(_int(0), count - tirx.min(tiles * self.tile, count)) as row:
                self._block(T.bind(first + tiles * self.tile + row), 1)

    def _locate(self, index: Expr) -> None:
        """Sets the place along batch and heads."""
        at = []
        for dim in reversed(self.sizes.batch):
            at.append(T.bind(tirx.truncmod(index, dim)))
            index = T.bind(tirx.truncdiv(index, dim))
        self.at = at[::-1]

    def _read(self, buffer: Any, operand: Operand, row: Expr, element: Expr) -> Expr:
        at = [*self.at, row, element]
        return tirx.BufferLoad(buffer, [axis.index(at) for axis in operand])

    def _pack_keys(self) -> None:
        """[key block, element, 16 keys]; keys past the last repeat it."""
        self.keys = _scratch(self.blocks * (self.depth * BLOCK))
        with T.serial(_int(0), self.whole) as block:
            base = T.bind(block * BLOCK)
            with T.serial(_int(0), _int(self.depth)) as k, _vector() as lane:
                key = self._read(self.key, self.plan.key, base + lane, k)
                self.keys[base * self.depth + k * BLOCK + lane] = key
        loops = T.serial(self.whole, self.blocks), T.serial(_int(0), _int(self.depth)), T.serial(_int(0), _int(BLOCK))
        with loops[0] as block, loops[1] as k, loops[2] as lane:
            last = tirx.min(block * BLOCK + lane, self.sizes.keys - 1)
            self.keys[(block * self.depth + k) * BLOCK + lane] = self._read(self.key, self.plan.key, last, k)

    def _pad_values(self) -> None:
        """A copy of the head's values [key, padded element], where a row is no whole number of vectors."""
        width = self.sizes.value_width
        if self.padded == width and self._is_last(self.plan.value):
            return
        self.values = _scratch(self.sizes.keys * self.padded)
        with T.serial(_int(0), self.sizes.keys) as key:
            with T.serial(_int(0), _int(width)) as e:
                self.values[key * self.padded + e] = self._read(self.value, self.plan.value, key, e)
            if self.padded > width:
                with T.serial(_int(width), _int(self.padded)) as e:
                    self.values[key * self.padded + e] = _f32(0)

    def _is_last(self, operand: Operand) -> bool:
        return operand[-1] == Axis(len(self.plan.result) - 1)

    def _block(self, first: Expr, rows: int) -> None:
        """``rows`` rows from ``first`` on; rows past the last repeat it."""
        queries = _registers(rows * self.depth)
        with T.serial(_int(0), _int(self.depth)) as k, T.unroll(_int(0), _int(rows)) as r:
            queries[k * rows + r] = self._read(self.query, self.plan.query, self._place(first, r), k)
        if rows == 1:
            self._scores_of_one(queries, first)
        else:
            self._scores_of_block(queries, first, rows)
        inverse = self._softmax(first, rows)
        with T.serial(_int(0), _int(self.padded // (self.value_blocks * BLOCK))) as part:
            self._product(first, rows, inverse, T.bind(part * (self.value_blocks * BLOCK)))

    def _place(self, first: Expr, r: Expr) -> Expr:
        return tirx.min(first + r, self.sizes.rows - 1)

    def _scores_of_block(self, queries: Any, first: Expr, rows: int) -> None:
        wide = self.key_blocks
        tiles = T.bind(tirx.truncdiv(self.whole, _int(wide)))
        with T.serial(_int(0), tiles) as tile:
            self._score_tile(queries, first, rows, T.bind(tile * wide), wide, True)
        with T.serial(tiles * wide, self.whole) as block:
            self._score_tile(queries, first, rows, block, 1, True)
        with T.serial(self.whole, self.blocks) as block:
            self._score_tile(queries, first, rows, block, 1, False)

    def _score_tile(self, queries: Any, first: Expr, rows: int, block: Expr, wide: int, whole: bool) -> None:
        sums = _registers(rows * wide * BLOCK)
        _clear(sums, rows * wide)
        with T.serial(_int(0), _int(self.depth)) as k, _each(wide) as j, _each(rows) as r, _vector() as lane:
            key = self.keys[((block + j) * self.depth + k) * BLOCK + lane]
            to = (r * wide + j) * BLOCK + lane
            sums[to] = sums[to] + queries[k * rows + r] * key
        with _each(wide) as j, _each(rows) as r:
            at = ((block + j) * rows + r) * BLOCK
            self._write_scores(sums, (r * wide + j) * BLOCK, at, self._place(first, r), block + j, whole)

    def _write_scores(self, sums: Any, start: Expr, to: Expr, row: Expr, block: Expr, whole: bool) -> None:
        """What the graph does to scores, and -inf for keys that there are none of."""
        with _vector() if whole else T.serial(_int(0), _int(BLOCK)) as lane:
            score = sums[start + lane]
            key = block * BLOCK + lane
            if whole:
                self.scores[to + lane] = self._applied(self.plan.before, score, row, key)
            else:
                value = self._applied(self.plan.before, score, row, tirx.min(key, self.sizes.keys - 1))
                self.scores[to + lane] = tirx.Select(key < self.sizes.keys, value, _f32(-math.inf))

    def _applied(self, function: Scores, value: Expr, row: Expr, key: Expr) -> Expr:
        return function(value, lambda i: self._read(self.others[i], self.plan.others[i], row, key))

    def _scores_of_one(self, queries: Any, row: Expr) -> None:
        """One row: each key's elements lie beside one another, or each element's keys do."""
        sums = _registers(BLOCK)
        with T.serial(_int(0), self.whole) as block:
            self._scores_of_some(queries, sums, block, True)
            self._write_scores(sums, _int(0), block * BLOCK, row, block, True)
        with T.serial(self.whole, self.blocks) as block:
            self._scores_of_some(queries, sums, block, False)
            self._write_scores(sums, _int(0), block * BLOCK, row, block, False)

    def _scores_of_some(self, queries: Any, sums: Any, block: Expr, whole: bool) -> None:
        if self.depth % BLOCK == 0 and self._is_last(self.plan.key):
            with T.serial(_int(0), _int(BLOCK) if whole else self.sizes.keys - block * BLOCK) as lane:
                sums[lane] = self._dot(queries, block * BLOCK + lane)
            return
        _clear(sums, 1)
        lanes = _vector() if whole else T.serial(_int(0), _int(BLOCK))
        with T.serial(_int(0), _int(self.depth)) as k, lanes as lane:
            key = block * BLOCK + lane
            key = key if whole else tirx.min(key, self.sizes.keys - 1)
            sums[lane] = sums[lane] + queries[k] * self._read(self.key, self.plan.key, key, k)

    def _dot(self, queries: Any, key: Expr) -> Expr:
        parts = _registers(BLOCK)
        _clear(parts, 1)
        with _each(self.depth // BLOCK) as part, _vector() as lane:
            at = part * BLOCK + lane
            parts[lane] = parts[lane] + queries[at] * self._read(self.key, self.plan.key, key, at)
        return _folded(parts, _int(0), lambda a, b: a + b)

    def _softmax(self, first: Expr, rows: int) -> Any:
        """Exponentials in place of the scores; gives the rows' factors, which are 1 once ``after`` was applied."""
        best, sums, inverse = _registers(rows * BLOCK), _registers(rows * BLOCK), _registers(rows)
        _clear(best, rows, -math.inf)
        _clear(sums, rows)
        with T.serial(_int(0), self.blocks) as block, _each(rows) as r, _vector() as lane:
            at = r * BLOCK + lane
            best[at] = tirx.max(best[at], self.scores[(block * rows + r) * BLOCK + lane])
        with _each(rows) as r:
            inverse[r] = _folded(best, r * BLOCK, tirx.max)
        with T.serial(_int(0), self.blocks) as block, T.serial(_int(0), _int(rows)) as r:
            at = T.bind((block * rows + r) * BLOCK)
            peak = T.bind(inverse[r])
            with _vector() as lane:
                self.scores[at + lane] = tirx.exp(self.scores[at + lane] - peak)
            with _vector() as lane:
                sums[r * BLOCK + lane] = sums[r * BLOCK + lane] + self.scores[at + lane]
        with _each(rows) as r:
            factor = _f32(1) / _folded(sums, r * BLOCK, lambda a, b: a + b)
            # Of no keys there is no sum, and nothing to divide.
            inverse[r] = factor if as_int(self.sizes.keys) else tirx.Select(self.sizes.keys > 0, factor, _f32(0))
        if self.plan.after is not None:
            self._apply_after(self.plan.after, first, rows, inverse)
        return inverse

    def _apply_after(self, after: Scores, first: Expr, rows: int, inverse: Any) -> None:
        with T.serial(_int(0), _int(rows)) as r:
            row, factor = T.bind(self._place(first, r)), T.bind(inverse[r])
            with T.serial(_int(0), self.whole) as block, _vector() as lane:
                at = (block * rows + r) * BLOCK + lane
                self.scores[at] = self._applied(after, self.scores[at] * factor, row, block * BLOCK + lane)
            with T.serial(self.whole * BLOCK, self.sizes.keys) as key:
                at = (self.whole * rows + r) * BLOCK + key - self.whole * BLOCK
                self.scores[at] = self._applied(after, self.scores[at] * factor, row, key)
            inverse[r] = _f32(1)

    def _product(self, first: Expr, rows: int, inverse: Any, start: Expr) -> None:
        """The scores' product with some of the values' elements, from ``start`` on."""
        wide = self.value_blocks
        sums = _registers(rows * wide * BLOCK)
        _clear(sums, rows * wide)
        with T.serial(_int(0), self.blocks) as block:
            count = tirx.min(_int(BLOCK), self.sizes.keys - block * BLOCK)
            with T.serial(_int(0), count) as key, _each(wide) as j, _each(rows) as r, _vector() as lane:
                value = self._value(block * BLOCK + key, start + j * BLOCK + lane)
                to = (r * wide + j) * BLOCK + lane
                sums[to] = sums[to] + self.scores[(block * rows + r) * BLOCK + key] * value
        with _each(rows) as r, _each(wide) as j:
            self._write(sums, (r * wide + j) * BLOCK, self._place(first, r), start + j * BLOCK, inverse[r])

    def _value(self, key: Expr, element: Expr) -> Expr:
        if self.values is not None:
            return self.values[key * self.padded + element]
        return self._read(self.value, self.plan.value, key, element)

    def _write(self, sums: Any, at: Expr, row: Expr, start: Expr, inverse: Expr) -> None:
        width = self.sizes.value_width
        with _vector() if width == self.padded else T.serial(_int(0), tirx.min(_int(BLOCK), width - start)) as lane:
            place = [*self.at, row, start + lane]
            T.buffer_store(self.out, sums[at + lane] * inverse, [place[axis] for axis in self.plan.result])


def _int(value: Any) -> Expr:
    return tirx.const(value, "int64") if isinstance(value, int) else value


def _f32(value: float) -> Expr:
    return tirx.const(value, "float32")


def _scratch(size: Expr) -> Any:
    return T.buffer_proxy(T.alloc_buffer((size,), "float32"))


def _registers(size: int) -> Any:
    return T.buffer_proxy(T.alloc_buffer((size,), "float32"))


@contextmanager
def _vector() -> Iterator[Expr]:
    with T.vectorized(_int(0), _int(BLOCK)) as lane:
        yield lane


@contextmanager
def _each(count: int) -> Iterator[Expr]:
    """An unrolled loop: what it indexes stays in registers."""
    with T.unroll(_int(0), _int(count)) as index:
        yield index


def _clear(buffer: Any, vectors: int, value: float = 0.0) -> None:
    with _each(vectors) as i, _vector() as lane:
        buffer[i * BLOCK + lane] = _f32(value)


def _folded(buffer: Any, start: Expr, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a vector combined pairwise, halves first."""
    values = [buffer[start + lane] for lane in range(BLOCK)]
    while len(values) > 1:
        half = len(values) // 2
        values = [combine(a, b) for a, b in zip(values[:half], values[half:], strict=True)]
    return values[0]
