"""Product of bytes with constant, packed weights: a register tile of rows by 16-lane blocks, sums in int32.

Weights lie in blocks of 16 columns by groups of 4 rows, 64 bytes each, on every machine (``dot_products``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import TEMPLATE_KEY, as_int, extent
from .dot_products import GROUP, dot_for
from .generic import PARALLEL_MIN_WORK
from .matmul import write_tile
from .template import Parameters, register
from .tiles import BLOCK, best_tile, best_width, finish_epilogue, schedule_prologue

NAME = "int8_matmul"
FASTER = 4
"""How many times as many products as in fp32 are worth a thread."""


def pack(weight: np.ndarray) -> np.ndarray:
    """int8 [K, N] → [ceil(N / 16), ceil(K / 4), 16, 4], zeros where there is no weight."""
    depth, columns = weight.shape
    groups, blocks = -(-depth // GROUP), -(-columns // BLOCK)
    padded = np.zeros((groups * GROUP, blocks * BLOCK), weight.dtype)
    padded[:depth, :columns] = weight
    return np.ascontiguousarray(padded.reshape(groups, GROUP, blocks, BLOCK).transpose(2, 0, 3, 1))


def row_tile(rows: Any, columns: int, depth: int, target: Target) -> int:
    """Rows of the register tile; part of the expression, because it rounds the number of computed rows up."""
    return best_tile(as_int(rows), -(-columns // BLOCK), target, -(-depth // GROUP))[0]


def whole_groups(data: te.Tensor, last: Any) -> te.Tensor:
    """The data with its last axis, of ``last`` bytes, filled up to whole groups: what is there meets zeros."""
    if last % GROUP == 0:
        return data
    *outer, _ = data.shape
    filled = [*outer, tirx.const(-(-last // GROUP) * GROUP, "int64")]

    def element(*index: tirx.Var) -> Any:
        return data[(*index[:-1], tirx.min(index[-1], last - 1))]

    return te.compute(filled, element, name="whole_groups")


def int8_matmul(data: te.Tensor, weight: te.Tensor, columns: int, tile: int) -> te.Tensor:
    """uint8 [..., M, K] x packed int8 [ceil(N / 16), ceil(K / 4), 16, 4] → int32 [..., M, N] with N = ``columns``.

    Computed are whole tiles: rows past the last repeat it. Nothing may overflow: 255 * 128 * K < 2**31.
    """
    *outer, rows, depth = data.shape
    source = whole_groups(data, int(depth))
    k = te.reduce_axis((0, tirx.const(int(weight.shape[1]) * GROUP, "int64")), name="k")
    padded = [*outer, tirx.floordiv(rows + tile - 1, tile) * tile, weight.shape[0] * BLOCK]

    def product(*index: tirx.Var) -> Any:
        *batch, i, j = index
        value = source[(*batch, tirx.min(i, rows - 1), k)].astype("int32")
        return te.sum(value * weight[j // BLOCK, k // GROUP, j % BLOCK, k % GROUP].astype("int32"), axis=k)

    tiles = te.compute(padded, product, name="int8_matmul", attrs={TEMPLATE_KEY: NAME, "rows": tile})
    return te.compute([*outer, rows, tirx.const(columns, "int64")], lambda *index: tiles[index], name="rows")


class Int8Matmul:
    """Parameters: ``blocks``, the 16-lane blocks of a tile. The rows are fixed by the expression."""

    name = NAME
    version = 1

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        count = (extent(schedule, schedule.get_loops(anchor)[-2]) or BLOCK) // BLOCK
        return {"blocks": [n for n in range(1, 9) if count % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        rows = int(schedule.get(anchor).annotations["rows"])
        depth = (extent(schedule, schedule.get_loops(anchor)[-1]) or 1) // GROUP
        return {"blocks": best_width(rows, self.space(schedule, anchor, target)["blocks"], target, depth)}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        rows = int(schedule.get(anchor).annotations["rows"])
        before, output = finish_epilogue(schedule, anchor)
        *outer, i, j, k = schedule.get_loops(anchor)
        counts = [extent(schedule, loop) for loop in (*outer, i, j, k)]
        i_tile, i_inner = schedule.split(i, [None, rows])
        j_tile, j_block, lane = split_columns(schedule, j, parameters["blocks"], target)
        group, byte = schedule.split(k, [None, GROUP])
        schedule.reorder(*outer, j_tile, i_tile, group, i_inner, j_block, lane, byte)
        write_tile(schedule, anchor, output, i_tile)
        loops = [*outer, j_tile]
        if is_large(counts):
            few = (extent(schedule, j_tile) or 1) < 4
            schedule.parallel(schedule.fuse(*loops, i_tile) if few else schedule.fuse(*loops))
        schedule_prologue(schedule, before, target)
        tensorize_tile(schedule, anchor, group, (i_inner, j_block), (lane, byte), target)


def is_large(counts: list[int | None]) -> bool:
    work = 1
    for count in counts:
        if count is None:
            return True
        work *= count
    return work >= 4 * FASTER * PARALLEL_MIN_WORK


def split_columns(schedule: Schedule, loop: Any, blocks: int, target: Target) -> tuple[Any, Any, Any]:
    """(tiles, vectors of a tile, lanes of a vector) of a loop over output columns; a tile has ``blocks`` blocks."""
    lanes = dot_for(target).lanes
    tile, vector, lane = schedule.split(loop, [None, blocks * BLOCK // lanes, lanes])
    return tile, vector, lane


def tensorize_tile(
    schedule: Schedule, anchor: SBlockRV, reduction: Any, tile: tuple[Any, Any], inner: tuple[Any, Any], target: Target
) -> None:
    """``tile`` unrolled, ``inner`` (lanes, bytes of a group) as instructions; sums start at 0 before ``reduction``."""
    dot = dot_for(target)
    lane, byte = inner
    for loop in tile:
        schedule.unroll(loop)
    if dot.intrinsic is None:
        schedule.reorder(byte, lane)
        schedule.unroll(byte)
        schedule.vectorize(lane)
        schedule.decompose_reduction(anchor, reduction)
        return
    start = schedule.decompose_reduction(anchor, reduction)
    schedule.vectorize(schedule.get_loops(start)[-1])
    schedule.tensorize(lane, dot.intrinsic)


register(Int8Matmul())
