"""Matrix products, and convolutions as products of gathered pixels: dlight's rule, with tiles chosen by size.

A block of threads computes a tile of the result from pieces of both operands in shared memory, each thread a small tile
in registers. Large tiles read less for what they compute; but where they'd leave processors of the GPU without work,
smaller ones serve.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl

from ...targets import Target
from ..blocks import all_blocks, as_int, is_spatial, split_loops

VERSION = 1

_FULL = 200
"""Blocks that keep a GPU busy: about two for each of the A100's 108 processors."""

_BEFORE_TENSOR_CORES = "sm_60"
"""Tells dlight's rule to leave tensor cores alone: it would use them for float16 through headers that NVRTC's wheels
lack, and with shared memory whose size is known at the start only."""

_EXPLICIT = "pragma_unroll_explicit"


@dataclass(frozen=True)
class Tile:
    """``rows`` by ``columns`` threads, each with ``row_size`` by ``column_size`` elements; ``depth`` at a time."""

    rows: int
    columns: int
    row_size: int
    column_size: int
    depth: int = 16

    def blocks(self, rows: int, columns: int) -> int:
        return -(-rows // (self.rows * self.row_size)) * -(-columns // (self.columns * self.column_size))


TILES = (Tile(16, 16, 8, 8, 8), Tile(8, 16, 8, 4), Tile(8, 16, 4, 4))


class TiledMatmul(dl.gpu.Matmul):
    def __init__(self, tile: Tile):
        self._tile = tile

    def get_configs(self, target: tvm.target.Target) -> dl.gpu.Matmul.Config:
        tile = self._tile
        return self.Config(
            block_size_x=tile.rows,
            block_size_y=tile.columns,
            micro_size_x=tile.row_size,
            micro_size_y=tile.column_size,
            micro_size_k=tile.depth,
            vector_size=2,
            unroll=64,
            storage_align=True,
        )


def schedule_matmul(function: tirx.PrimFunc, target: Target, tile: int | None = None) -> tirx.PrimFunc | None:
    """The scheduled function with the tile TILES[tile] (None: the default); None where it is no product.

    Raises what dlight raises.
    """
    tile = default(function, target) if tile is None else tile
    plain = tvm.target.Target({"kind": "cuda", "arch": _BEFORE_TENSOR_CORES})
    schedule = TiledMatmul(TILES[tile]).apply(function, plain, False) if tile is not None else None
    return _leave_unrolling(schedule.mod["main"]) if isinstance(schedule, Schedule) else None


def default(function: tirx.PrimFunc, _target: Target) -> int | None:
    """The index in TILES of the largest tile that keeps a GPU busy; None for no reduction, or several."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    reductions = [block for block in all_blocks(schedule) if not is_spatial(schedule, block)]
    if len(reductions) != 1:
        return None
    sizes = [as_int(schedule.get(loop).extent) for loop in split_loops(schedule, reductions[0])[0]]
    if not sizes or sizes[-1] is None or None in sizes[:-1]:
        return 1
    rows = 1
    for size in sizes[:-1]:
        rows *= size or 1
    full = (index for index, tile in enumerate(TILES) if tile.blocks(rows, sizes[-1]) >= _FULL)
    return next(full, len(TILES) - 1)


def _leave_unrolling(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """NVRTC unrolls as well, from a source of a tenth of the size."""

    def visit(loop: tirx.For) -> tirx.For:
        if _EXPLICIT not in loop.annotations:
            return loop
        annotations = {**dict(loop.annotations), _EXPLICIT: tirx.IntImm("int32", 0)}
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, loop.body, loop.thread_binding, annotations, loop.step
        )

    return tvm_ffi.structural_map(function, (tirx.For, visit), order="post")
