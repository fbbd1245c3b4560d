"""Scaled dot-product attention in one kernel: a block of threads for some rows of queries, with softmax as keys come.

The rows lie in shared memory; keys and values pass through it a piece at a time. Each piece's scores, with whatever the
graph does to them, raise the row's maximum m; what was summed before shrinks by exp(m_old - m). So no more than a piece
of the scores exists at any time. What the graph does to probabilities needs their sum first: then keys pass twice.
(Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022.)

As in the operators one after the other, rows that hold NaN, +inf or -inf alone are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import setitem
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...gpus import STATIC_SHARED_BYTES
from ..attention import Attention, Operand, Scores, Sizes
from ..blocks import as_int

Expr = Any

NAME = "gpu_attention"
THREADS = 128
WIDEST = 256
"""Elements of a head's key or value: past that, shared memory has no room for enough of them."""

_TILES = ((32, 32), (16, 32), (16, 16), (8, 16))
_FEW_ROWS = ((2, 64), (4, 32), (8, 16))
_ROOM = STATIC_SHARED_BYTES // 4


@dataclass(frozen=True)
class _Tile:
    """``rows`` of queries in a block, ``keys`` in shared memory at a time; their product fills all threads."""

    rows: int
    keys: int

    @staticmethod
    def of(sizes: Sizes) -> _Tile:
        """The largest that shared memory has room for; fewer rows and more keys where there are few rows."""
        known = as_int(sizes.rows)
        shapes = _FEW_ROWS if known is not None and known <= 4 else _TILES
        return next(tile for tile in (_Tile(*shape) for shape in shapes) if tile.floats(sizes) <= _ROOM)

    def floats(self, sizes: Sizes) -> int:
        """Of shared memory; rows of keys and of scores are an element longer, against conflicts."""
        values = self.rows * sizes.depth + self.keys * (sizes.depth + 1) + self.keys * sizes.value_width
        return values + self.rows * (self.keys + 1) + 3 * self.rows


def attention(query: te.Tensor, key: te.Tensor, value: te.Tensor, *others: te.Tensor, plan: Attention) -> te.Tensor:
    """As ``schedules.attention.attention``: [..., S, D] x [..., T, D] x [..., T, E] to [..., S, E] in float32."""
    sizes = Sizes.of(plan, query, key, value)

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        with IRBuilder() as builder:
            _Kernel(plan, sizes, list(ins), outs[0]).emit()
        return builder.get()

    shape = [*sizes.batch, sizes.rows, sizes.value_width]
    ordered = [_int(shape[axis]) for axis in plan.result]
    tensors = [query, key, value, *others]
    given = [tirx.decl_buffer(tensor.shape, str(tensor.dtype)) for tensor in tensors]  # starting where they start
    made = tirx.decl_buffer(ordered, "float32")
    return te.extern(
        [ordered], tensors, body, dtype="float32", name="attention", in_buffers=given, out_buffers=[made]
    )


class _Kernel:
    """Emits the kernel into the IR builder at work.

    Between two barriers no thread reads what another writes, and all threads of a block meet every barrier.
    """

    def __init__(self, plan: Attention, sizes: Sizes, ins: list[Any], out: Any):
        self.plan, self.sizes, self.out = plan, sizes, out
        self.query, self.key, self.value, *self.others = ins
        self.tile = _Tile.of(sizes)
        self.rounds = -(-self.tile.rows * sizes.value_width // THREADS)
        self.at: list[Expr] = []
        self.first: Expr = None
        self.thread: Expr = None

    def emit(self) -> None:
        rows, sizes = self.tile.rows, self.sizes
        pieces = tirx.truncdiv(sizes.rows + (rows - 1), _int(rows))
        blocks = pieces
        for dim in sizes.batch:
            blocks = blocks * dim
        with T.thread_binding(0, blocks, "blockIdx.x") as block, T.thread_binding(0, THREADS, "threadIdx.x") as thread:
            self.thread = T.bind(thread.astype("int64"))
            index = T.bind(block.astype("int64"))
            self.first = T.bind(tirx.truncmod(index, pieces) * rows)
            self._locate(T.bind(tirx.truncdiv(index, pieces)))
            self._allocate()
            self._start()
            if self.plan.after is None:
                self._pass(self._update)
            else:
                self._pass(lambda _piece: self._row_maxima(with_sums=True))
            with T.If(self.thread < rows), T.Then():
                self.totals[self.thread] = self.total[0]
            _barrier()
            if self.plan.after is not None:
                self._pass(self._probabilities)
            self._write()

    def _locate(self, index: Expr) -> None:
        at = []
        for dim in reversed(self.sizes.batch):
            at.append(T.bind(tirx.truncmod(index, dim)))
            index = T.bind(tirx.truncdiv(index, dim))
        self.at = at[::-1]

    def _allocate(self) -> None:
        rows, keys, sizes = self.tile.rows, self.tile.keys, self.sizes
        self.queries = _buffer(rows * sizes.depth, "shared")
        self.keys = _buffer(keys * (sizes.depth + 1), "shared")
        self.values = _buffer(keys * sizes.value_width, "shared")
        self.scores = _buffer(rows * (keys + 1), "shared")
        self.peaks, self.totals, self.shrinks = (_buffer(rows, "shared") for _ in range(3))
        self.best, self.total = _buffer(1, "local"), _buffer(1, "local")  # of the row with this thread's number
        self.held = _buffer(1, "local")  # not a variable: TVM takes the address of one that is a float
        self.sums = _buffer(self.rounds, "local")

    def _start(self) -> None:
        depth = self.sizes.depth

        def load(at: Expr) -> None:
            row = tirx.min(self.first + tirx.truncdiv(at, _int(depth)), self.sizes.rows - 1)
            self.queries[at] = self._read(self.query, self.plan.query, row, tirx.truncmod(at, _int(depth)))

        self._share(self.tile.rows * depth, load)
        self.best[0], self.total[0] = _f32(-math.inf), _f32(0)
        _each(self.rounds, lambda i: setitem(self.sums, i, _f32(0)))

    def _share(self, count: int, work: Callable[[Expr], None]) -> None:
        """``work`` for each of ``count`` indices, neighbours by neighbouring threads."""
        with T.serial(_int(0), _int(-(-count // THREADS))) as i:
            at = T.bind(i * THREADS + self.thread)
            if count % THREADS:
                with T.If(at < count), T.Then():
                    work(at)
            else:
                work(at)

    def _pass(self, use: Callable[[Expr], None]) -> None:
        """All keys once, a piece at a time: their scores, and what ``use`` does with them."""
        keys = self.tile.keys
        with T.serial(_int(0), tirx.truncdiv(self.sizes.keys + (keys - 1), _int(keys))) as piece:
            start = T.bind(piece * keys)
            self._load(self.keys, self.key, self.plan.key, start, self.sizes.depth, 1)
            self._load(self.values, self.value, self.plan.value, start, self.sizes.value_width, 0)
            _barrier()
            self._score(start)
            _barrier()
            use(start)
            _barrier()

    def _load(self, to: Any, source: Any, operand: Operand, start: Expr, width: int, padding: int) -> None:
        lines_are_neighbours = operand[-1].logical == len(self.plan.result) - 2
        inner = self.tile.keys if lines_are_neighbours else width

        def load(at: Expr) -> None:
            outer, neighbour = T.bind(tirx.truncdiv(at, _int(inner))), T.bind(tirx.truncmod(at, _int(inner)))
            line, element = (neighbour, outer) if lines_are_neighbours else (outer, neighbour)
            key = T.bind(start + line)
            inside = self._read(source, operand, tirx.min(key, self.sizes.keys - 1), element)
            to[line * (width + padding) + element] = tirx.Select(key < self.sizes.keys, inside, _f32(0))

        self._share(self.tile.keys * width, load)

    def _score(self, start: Expr) -> None:
        keys, depth = self.tile.keys, self.sizes.depth
        rounds = self.tile.rows * keys // THREADS
        dots = _buffer(rounds, "local")
        line = T.bind(tirx.truncmod(self.thread, _int(keys)))
        first = T.bind(tirx.truncdiv(self.thread, _int(keys)))
        _each(rounds, lambda i: setitem(dots, i, _f32(0)))
        with T.serial(_int(0), _int(depth)) as k:
            self.held[0] = self.keys[line * (depth + 1) + k]

            def multiply(i: Expr) -> None:
                row = first + i * (THREADS // keys)
                dots[i] = dots[i] + self.queries[row * depth + k] * self.held[0]

            _each(rounds, multiply)
        key = T.bind(start + line)

        def write(i: Expr) -> None:
            row = T.bind(first + i * (THREADS // keys))
            value = self._applied(self.plan.before, dots[i], row, tirx.min(key, self.sizes.keys - 1))
            self.scores[row * (keys + 1) + line] = tirx.Select(key < self.sizes.keys, value, _f32(-math.inf))

        _each(rounds, write)

    def _update(self, _start: Expr) -> None:
        self._row_maxima(with_sums=False)
        _barrier()
        self._exponentials(lambda value, _row, _line: value)
        _barrier()
        self._each_row(lambda row: self._sum_row(lambda line: self._scored(row, line)))
        self._add(lambda i, row: self.sums[i] * self.shrinks[row])

    def _probabilities(self, start: Expr) -> None:
        """The second pass: maxima and sums are known."""
        after = self.plan.after
        assert after is not None

        def probability(value: Expr, row: Expr, line: Expr) -> Expr:
            key = start + line
            result = self._applied(after, value / self.totals[row], row, tirx.min(key, self.sizes.keys - 1))
            return tirx.Select(key < self.sizes.keys, result, _f32(0))

        self._exponentials(probability)
        _barrier()
        self._add(lambda i, _row: self.sums[i])

    def _scored(self, row: Expr, line: Expr) -> Expr:
        return self.scores[row * (self.tile.keys + 1) + line]

    def _each_row(self, work: Callable[[Expr], None]) -> None:
        """A thread a row; the other threads wait."""
        with T.If(self.thread < self.tile.rows), T.Then():
            work(self.thread)

    def _row_maxima(self, with_sums: bool) -> None:
        """Each row's maximum so far, and by what its sums shrink; ``with_sums`` brings the sum of exponentials up."""

        def work(row: Expr) -> None:
            self.held[0] = self.best[0]
            with T.serial(_int(0), _int(self.tile.keys)) as line:
                self.best[0] = tirx.max(self.best[0], self._scored(row, line))
            peak = _finite(self.best[0])
            self.peaks[row] = peak
            self.held[0] = tirx.exp(self.held[0] - peak)
            self.shrinks[row] = self.held[0]
            self.total[0] = self.total[0] * self.held[0]
            if with_sums:
                self._sum_row(lambda line: tirx.exp(self._scored(row, line) - peak))

        self._each_row(work)

    def _sum_row(self, exponential: Callable[[Expr], Expr]) -> None:
        with T.serial(_int(0), _int(self.tile.keys)) as line:
            self.total[0] = self.total[0] + exponential(line)

    def _exponentials(self, change: Callable[[Expr, Expr, Expr], Expr]) -> None:
        keys = self.tile.keys

        def one(at: Expr) -> None:
            row, line = T.bind(tirx.truncdiv(at, _int(keys))), T.bind(tirx.truncmod(at, _int(keys)))
            raised = tirx.exp(self._scored(row, line) - self.peaks[row])
            self.scores[row * (keys + 1) + line] = change(raised, row, line)

        self._share(self.tile.rows * keys, one)

    def _add(self, old: Callable[[Expr, Expr], Expr]) -> None:
        """The piece's product with its values, onto what ``old`` makes of the sums; a register an element."""
        keys, width = self.tile.keys, self.sizes.value_width
        _each(self.rounds, lambda i: setitem(self.sums, i, old(i, self._element(i)[0])))
        with T.serial(_int(0), _int(keys)) as line:

            def multiply(i: Expr) -> None:
                row, column = self._element(i)
                share = self.scores[row * (keys + 1) + line]
                self.sums[i] = self.sums[i] + share * self.values[line * width + column]

            _each(self.rounds, multiply)

    def _element(self, i: Expr) -> tuple[Expr, Expr]:
        """(row, column) of a thread's i-th sum; threads that have none repeat the last."""
        width = _int(self.sizes.value_width)
        at = tirx.min(i * THREADS + self.thread, _int(self.tile.rows * self.sizes.value_width - 1))
        return tirx.truncdiv(at, width), tirx.truncmod(at, width)

    def _write(self) -> None:
        def element(i: Expr) -> None:
            row, column = self._element(i)
            value = self.sums[i]
            if self.plan.after is None:
                value = tirx.Select(self.sizes.keys > 0, value / self.totals[row], _f32(0))
            place = [*self.at, self.first + row, column]
            with T.If(self.first + row < self.sizes.rows), T.Then():
                T.buffer_store(self.out, value, [place[axis] for axis in self.plan.result])

        _each(self.rounds, element)

    def _read(self, buffer: Any, operand: Operand, row: Expr, element: Expr) -> Expr:
        at = [*self.at, row, element]
        return tirx.BufferLoad(buffer, [axis.index(at) for axis in operand])

    def _applied(self, function: Scores, value: Expr, row: Expr, key: Expr) -> Expr:
        place = tirx.min(self.first + row, self.sizes.rows - 1)
        return function(value, lambda i: self._read(self.others[i], self.plan.others[i], place, key))


def _finite(maximum: Expr) -> Expr:
    """A row of -inf alone has exponentials of 0, whose sum then gives NaN."""
    return tirx.Select(maximum == _f32(-math.inf), _f32(0), maximum)


def _int(value: Any) -> Expr:
    return tirx.const(value, "int64") if isinstance(value, int) else value


def _f32(value: float) -> Expr:
    return tirx.const(value, "float32")


def _each(count: int, work: Callable[[Expr], None]) -> None:
    """``work`` for 0 to ``count``, unrolled: what it indexes stays in registers."""
    with T.unroll(_int(0), _int(count)) as i:
        work(i)


def _barrier() -> None:
    T.evaluate(tirx.call_intrin("int32", "tirx.tvm_storage_sync", "shared"))


def _buffer(size: int, scope: str) -> Any:
    return T.buffer_proxy(T.alloc_buffer((size,), "float32", scope=scope))
