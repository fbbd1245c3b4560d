"""Product of two computed matrices, batched: the packed kernel of ``matmul``, with the right side packed at run time.

Where the number of columns is a fixed multiple of 16 the right side is read in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import TEMPLATE_KEY, as_int, extent
from .matmul import write_tile
from .template import Parameters, register
from .tiles import BLOCK, accumulators, finish_epilogue, registers_per_block, schedule_prologue

NAME = "batch_matmul"


def batch_matmul(left: te.Tensor, right: te.Tensor, tile: int) -> te.Tensor:
    """[..., M, K] x [..., K, N] → [..., M, N]; the batch dims of both are equal, or ``right`` has none.

    Whole tiles of rows are computed: rows past the last repeat it.
    """
    *batch, rows, depth = left.shape
    columns = right.shape[-1]
    k = te.reduce_axis((0, depth), name="k")
    blocks = tirx.floordiv(columns + BLOCK - 1, BLOCK)
    fixed = as_int(columns)
    in_place = fixed is not None and fixed % BLOCK == 0
    packed = right if in_place else _pack(right, blocks)
    shared = len(right.shape) == 2

    def product(*index: tirx.Var) -> Any:
        *outer, i, j = index
        prefix = () if shared else tuple(outer)
        value = packed[(*prefix, k, j)] if in_place else packed[(*prefix, j // BLOCK, k, j % BLOCK)]
        return te.sum(left[(*outer, tirx.min(i, rows - 1), k)] * value, axis=k)

    padded = [*batch, tirx.floordiv(rows + tile - 1, tile) * tile, blocks * BLOCK]
    tiles = te.compute(padded, product, name="batch_matmul", attrs={TEMPLATE_KEY: NAME, "rows": tile})
    return te.compute([*batch, rows, columns], lambda *index: tiles[index], name="rows")


def _pack(right: te.Tensor, blocks: Any) -> te.Tensor:
    """[..., K, N] → [..., ceil(N / 16), K, 16]; columns past the last repeat it."""
    *outer, depth, columns = right.shape

    def element(*index: tirx.Var) -> Any:
        *prefix, block, k, lane = index
        return right[(*prefix, k, tirx.min(block * BLOCK + lane, columns - 1))]

    return te.compute([*outer, blocks, depth, BLOCK], element, name="pack")


class BatchMatmul:
    """Parameters: ``blocks``, the 16-lane blocks of a tile. The rows are fixed by the expression."""

    name = NAME
    version = 1

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        size = extent(schedule, schedule.get_loops(anchor)[-2])
        # A symbolic number of columns is any number of blocks: tiles of one block never overshoot.
        return {"blocks": [1] if size is None else [n for n in range(1, 9) if size // BLOCK % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        rows = int(schedule.get(anchor).annotations["rows"])
        limit = max(1, accumulators(target) // (rows * registers_per_block(target)))
        return {"blocks": max(n for n in self.space(schedule, anchor, target)["blocks"] if n <= limit)}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        rows = int(schedule.get(anchor).annotations["rows"])
        before, output = finish_epilogue(schedule, anchor)
        *outer, i, j, k = schedule.get_loops(anchor)
        i_tile, i_inner = schedule.split(i, [None, rows])
        j_tile, j_block, lane = schedule.split(j, [None, parameters["blocks"], BLOCK])
        schedule.reorder(*outer, j_tile, i_tile, k, i_inner, j_block, lane)
        write_tile(schedule, anchor, output, i_tile)
        schedule.vectorize(lane)
        schedule.unroll(j_block)
        schedule.unroll(i_inner)
        schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else [*outer, j_tile][0])
        schedule_prologue(schedule, before, target)
        schedule.decompose_reduction(anchor, k)


register(BatchMatmul())
