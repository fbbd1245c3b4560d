"""Matrix product with constant, packed weights: a register tile of rows by 16-lane blocks, reduction outside.

The tile is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import MEMORY_SCOPE, TAIL_KEY, TEMPLATE_KEY, as_int, extent, uses_expensive_maths
from .generic import PARALLEL_MIN_WORK
from .template import Parameters, register
from .tiles import (
    BLOCK,
    best_tile,
    best_width,
    finish_epilogue,
    prefetch_weights,
    schedule_prologue,
    sum_length,
    weights_stay,
)

NAME = "matmul"
FLOAT_BYTES, LINE_BYTES = 4, 64
ROLLED_DEPTH = 128
"""Products of a sum from which on it costs nothing to write the sums to memory before they are used."""

MANY_PANELS = 8
"""Panels of weights from which on it pays to fetch the next one early."""

TYPICAL_ROWS = 128
"""What an open number of rows is taken for; beside it there are tiles for few (``row_variants``)."""


def pack(weight: np.ndarray) -> np.ndarray:
    """[K, N] → [ceil(N / 16), K, 16], zeros in the last block's unused columns."""
    depth, columns = weight.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((depth, blocks * BLOCK), weight.dtype)
    padded[:, :columns] = weight
    return np.ascontiguousarray(padded.reshape(depth, blocks, BLOCK).transpose(1, 0, 2))


def row_tile(rows: Any, columns: int, target: Target, depth: int | None = None) -> int:
    """Rows of the register tile; part of the expression, because it rounds the number of computed rows up.

    ``depth`` is the number of products of a sum, where it is known.
    """
    known = as_int(rows)
    return best_tile(TYPICAL_ROWS if known is None else known, -(-columns // BLOCK), target, depth)[0]


def matmul(data: te.Tensor, weight: te.Tensor, columns: int, tile: int) -> te.Tensor:
    """[..., M, K] x packed [ceil(N / 16), K, 16] → [..., M, N] with N = ``columns``.

    Computed are whole tiles: rows past the last repeat it, so no load leaves the buffer and no branch is in the kernel.
    """
    *outer, rows, depth = data.shape
    k = te.reduce_axis((0, depth), name="k")
    padded = [*outer, tirx.floordiv(rows + tile - 1, tile) * tile, weight.shape[0] * BLOCK]

    def product(*index: tirx.Var) -> Any:
        *batch, i, j = index
        return te.sum(data[(*batch, tirx.min(i, rows - 1), k)] * weight[j // BLOCK, k, j % BLOCK], axis=k)

    tiles = te.compute(padded, product, name="matmul", attrs={TEMPLATE_KEY: NAME, "rows": tile})
    return te.compute([*outer, rows, columns], lambda *index: tiles[index], name="rows")


def summands(depth: int) -> int:
    """How many products one accumulator sums before the sum goes to a second one.

    Rounding errors grow with the length of a chain of additions: two short chains keep the error of a dot product of
    thousands near that of hundreds (Higham, "The accuracy of floating point summation", 1993).
    """
    return next((part for part in range(256, 63, -1) if depth % part == 0), depth)


class Matmul:
    """Parameters: ``blocks``, the 16-lane blocks of a tile. The rows are fixed by the expression."""

    name = NAME
    version = 2

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        count = self._blocks(schedule, anchor)
        return {"blocks": [n for n in range(1, 9) if count % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        rows = int(schedule.get(anchor).annotations["rows"])
        widths = self.space(schedule, anchor, target)["blocks"]
        return {"blocks": best_width(rows, widths, target, sum_length(schedule, anchor, 1))}

    def _blocks(self, schedule: Schedule, anchor: SBlockRV) -> int:
        return (extent(schedule, schedule.get_loops(anchor)[-2]) or BLOCK) // BLOCK

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        rows = int(schedule.get(anchor).annotations["rows"])
        before, output = finish_epilogue(schedule, anchor)
        *outer, i, j, k = schedule.get_loops(anchor)
        depth = extent(schedule, k) or 1
        panels, lines = self._blocks(schedule, anchor) // parameters["blocks"], parameters["blocks"] * depth
        streamed = not weights_stay(schedule, anchor, FLOAT_BYTES, target)
        i_tile, i_inner = schedule.split(i, [None, rows])
        j_tile, j_block, lane = schedule.split(j, [None, parameters["blocks"], BLOCK])
        partial = None
        if summands(depth) < depth:
            k, _ = schedule.split(k, [None, summands(depth)])
            partial = schedule.rfactor(k, 0)
            *outer, i_tile, i_inner, j_tile, j_block, lane, k = schedule.get_loops(anchor)
        schedule.reorder(*outer, j_tile, i_tile, k, i_inner, j_block, lane)
        if depth < ROLLED_DEPTH:
            write_tile(schedule, anchor, output, i_tile)
        else:
            write_rows(schedule, anchor, output, i_tile, copied=partial is None)
        sums = [(anchor, k)] if partial is None else [(anchor, k), self._tile_partial(schedule, partial, k, rows)]
        schedule.vectorize(lane)
        schedule.unroll(j_block)
        schedule.unroll(i_inner)
        self._parallelize(schedule, [*outer, j_tile], i_tile, depth, rows * parameters["blocks"] * BLOCK)
        schedule_prologue(schedule, before, target)
        for block, loop in sums:
            schedule.decompose_reduction(block, loop)
        # One row reads each weight once, in order, as the processor foresees by itself.
        if rows > 1 and streamed and panels >= MANY_PANELS and LINE_BYTES * lines <= target.l2:
            prefetch_weights(schedule, sums[-1][0], lines)

    def _tile_partial(self, schedule: Schedule, partial: SBlockRV, k: Any, rows: int) -> tuple[SBlockRV, Any]:
        """The sum of one part of the products, in registers, beside the sum of such sums."""
        schedule.compute_at(partial, k)
        loops = schedule.get_loops(partial)
        tile = [loops[-3]] if rows > 1 else []
        block, lane = schedule.split(loops[-2], [None, BLOCK])
        schedule.reorder(loops[-1], *tile, block, lane)
        schedule.vectorize(lane)
        for loop in (*tile, block):
            schedule.unroll(loop)
        return partial, loops[-1]

    def _parallelize(self, schedule: Schedule, outer: list[Any], i_tile: Any, depth: int, tile: int) -> None:
        counts = [extent(schedule, loop) for loop in [*outer, i_tile]]
        work = tile * depth
        for count in counts:
            work *= count or 1
        if work < 4 * PARALLEL_MIN_WORK and None not in counts:
            return
        many_columns = (counts[-2] or 1) >= 4
        fused = schedule.fuse(*outer) if many_columns else schedule.fuse(*outer, i_tile)
        schedule.parallel(fused)


def write_tile(schedule: Schedule, anchor: SBlockRV, output: SBlockRV, tile: Any) -> None:
    """Write each register tile out inside of the loop ``tile``, in vectors along the output's last axis.

    Sums stay in registers only if everything that reads them is unrolled; LLVM doesn't always do that by itself, and
    sums in memory cost more than half of the speed. Vectors of a length that divides the columns lie inside or outside
    as a whole. Otherwise the last one is guarded lane by lane, in a loop: it reads a copy of the tile.
    """
    columns = as_int(schedule.get(output).writes[0].source.shape[-1])
    lanes = next((n for n in (BLOCK, 8, 4) if columns is not None and columns % n == 0), None)
    registers = output
    if lanes is None:
        registers = schedule.cache_write(anchor, 0, "global")
        schedule.reverse_compute_at(registers, tile)
        schedule.vectorize(schedule.split(schedule.get_loops(registers)[-1], [None, BLOCK])[1])
    schedule.reverse_compute_at(output, tile)
    loop = schedule.get_loops(output)[-1]
    size = extent(schedule, loop)
    if size is None or size > (lanes or BLOCK):
        outer, loop = schedule.split(loop, [None, lanes or BLOCK])
        if lanes is None:
            schedule.annotate(outer, TAIL_KEY, lanes or BLOCK)
    schedule.vectorize(loop)
    unroll_tile(schedule, registers, tile)


def write_rows(schedule: Schedule, anchor: SBlockRV, output: SBlockRV, tile: Any, copied: bool) -> None:
    """As ``write_tile``, in a loop over the tile's rows, which reads the sums from memory.

    Written out for each row, what follows a product (an erf, say) is tens of kilobytes of code, and a network has many
    such kernels: each call would wait for its instructions. ``copied`` says that the sums are still in registers.
    """
    registers = schedule.cache_write(anchor, 0, "global") if copied else None
    if registers is not None:
        schedule.reverse_compute_at(registers, tile)
        schedule.vectorize(schedule.split(schedule.get_loops(registers)[-1], [None, BLOCK])[1])
        unroll_tile(schedule, registers, tile)
    schedule.set_scope(anchor if registers is None else registers, 0, MEMORY_SCOPE)
    schedule.reverse_compute_at(output, tile)
    loop = schedule.get_loops(output)[-1]
    size = extent(schedule, loop)
    columns = as_int(schedule.get(output).writes[0].source.shape[-1])
    lanes = next((n for n in (BLOCK, 8, 4) if columns is not None and columns % n == 0), None)
    if size is None or size > (lanes or BLOCK):
        vectors, loop = schedule.split(loop, [None, lanes or BLOCK])
        if lanes is None:
            schedule.annotate(vectors, TAIL_KEY, lanes or BLOCK)
        elif not uses_expensive_maths(schedule, output):
            schedule.unroll(vectors)
    schedule.vectorize(loop)


def unroll_tile(schedule: Schedule, block: SBlockRV, tile: Any) -> None:
    """Unroll the loops around ``block`` inside of ``tile``, but for its vector and for loops of an open extent."""
    loops = schedule.get_loops(block)[:-1]
    outside = [schedule.get(loop).same_as(schedule.get(tile)) for loop in loops].index(True)
    for loop in loops[outside + 1 :]:
        if extent(schedule, loop) is not None:
            schedule.unroll(loop)


register(Matmul())
