"""Matrix products and convolutions on tensor cores: fp16 or tf32 operands, sums in float32.

The form is dlight's for products: whatever the anchor multiplies becomes C[s, i, j] += A[s, i, k] * B[s, j, k], a
convolution with pixels for i and a window's elements for k. Its gathered operand exists in shared memory alone, a piece
at a time (implicit GEMM). A block of warps computes a tile of C, each warp some squares of 16 x 16; behind the last
piece each square passes through shared memory, where what follows the product is applied to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.dlight.gpu.matmul import (
    IterKind,
    IterTrait,
    auto_inline_consumer_chain,
    auto_inline_producers,
    detect_iter_traits,
    get_reduction_blocks,
    make_iter_fusion_index_map,
)
from tvm.s_tir.schedule import SBlockRV

from ...targets import Target
from ..blocks import all_blocks, as_int, depends_on
from .tensor_intrinsics import FILL, MARK, PRODUCTS, SIDE, STORE, WARP, ensure_registered

NAME = "gpu_tensor_cores"
VERSION = 1

_FULL = 200
"""Blocks that keep a GPU busy: about two for each of the A100's 108 processors."""

_FEW = 8
"""Rows or columns that would leave most of a square empty: dot products serve better."""


@dataclass(frozen=True)
class Tile:
    """A block's ``row_warps`` by ``column_warps`` warps, each with ``row_squares`` by ``column_squares`` squares of
    16 x 16; ``depth_squares`` times 16 elements of the depth lie in shared memory at a time."""

    row_warps: int
    column_warps: int
    row_squares: int
    column_squares: int
    depth_squares: int

    @property
    def rows(self) -> int:
        return self.row_warps * self.row_squares * SIDE

    @property
    def columns(self) -> int:
        return self.column_warps * self.column_squares * SIDE

    def blocks(self, rows: int, columns: int) -> int:
        """How many blocks a product of that size takes."""
        return -(-rows // self.rows) * -(-columns // self.columns)


TILES = (Tile(2, 4, 4, 2, 2), Tile(2, 2, 2, 2, 2), Tile(1, 2, 1, 2, 2), Tile(1, 1, 1, 1, 4))
"""128 x 128, 64 x 64, 16 x 64 and 16 x 16 elements a block."""

_TINY = 3
"""The index of tiles that read too much for what they compute to be a default."""


def operand_type(function: tirx.PrimFunc, target: Target) -> str | None:
    """The type that products of ``function`` have in shared memory; None where tensor cores are not for it.

    Products of float16 with sums in float32 are; those of float32 where the target asks for tf32.
    """
    schedule = Schedule(tvm.IRModule({"main": function}))
    anchor = _anchor(schedule)
    if anchor is None:
        return None
    block = schedule.get(anchor)
    types = {str(region.source.dtype) for region in block.reads if not region.source.same_as(block.writes[0].source)}
    if str(block.writes[0].source.dtype) != "float32" or not _is_product(block):
        return None
    if types == {"float16"}:
        return "float16"
    return "float32" if types == {"float32"} and target.precision == "tf32" else None


def default(function: tirx.PrimFunc, target: Target) -> int | None:
    """The index in TILES of the largest tile that keeps a GPU busy; None for what it is not, or too narrow."""
    if operand_type(function, target) is None:
        return None
    schedule = Schedule(tvm.IRModule({"main": function}))
    anchor = _anchor(schedule)
    assert anchor is not None
    _normalize(schedule, anchor)
    sizes = [as_int(schedule.get(loop).extent) for loop in schedule.get_loops(anchor)]
    batch, rows, columns, _ = sizes
    if (rows is not None and rows < _FEW) or (columns is not None and columns < _FEW):
        return None
    if rows is None or columns is None:
        return 1
    counts = [(batch or 1) * tile.blocks(rows, columns) for tile in TILES[:_TINY]]
    return next((index for index, count in enumerate(counts) if count >= _FULL), _TINY - 1)


def schedule_tensor_cores(function: tirx.PrimFunc, target: Target, tile: int | None = None) -> tirx.PrimFunc | None:
    """The scheduled function with the tile TILES[tile] (None: the default); None where it is no product for it.

    Raises what TVM raises where the form doesn't fit.
    """
    dtype = operand_type(function, target)
    tile = default(function, target) if dtype and tile is None else tile
    if dtype is None or tile is None:
        return None
    ensure_registered()
    schedule = Schedule(tvm.IRModule({"main": function}))
    anchor = _anchor(schedule)
    assert anchor is not None
    _apply(schedule, anchor, TILES[tile], dtype)
    return schedule.mod["main"].with_attr(MARK, True)


def _anchor(schedule: Schedule) -> SBlockRV | None:
    blocks = get_reduction_blocks(schedule, all_blocks(schedule))
    return blocks[0] if blocks else None


def _is_product(block: tirx.SBlock) -> bool:
    """Whether the block adds the product of two elements to its result."""
    body: Any = block.body
    value = body.value if isinstance(body, tirx.BufferStore) else None
    if not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
        return False
    return all(isinstance(_uncast(side), TensorLoad) for side in (value.b.a, value.b.b))


def _uncast(value: Any) -> Any:
    return value.value if isinstance(value, tirx.Cast) else value


def _normalize(schedule: Schedule, anchor: SBlockRV) -> None:
    operands = [schedule.reindex(anchor, ("read", index)) for index in (0, 1)]
    result = schedule.reindex(anchor, ("write", 0))
    traits = detect_iter_traits(schedule.get(anchor))
    if traits is None:
        raise ValueError("not of the form of a matrix product")
    left, right, out, block = traits
    _separate_open_rows(block)
    for operand, axes, kinds in ((operands[0], left, "SIK"), (operands[1], right, "SJK")):
        schedule.transform_layout(operand, ("write", 0), _fused(axes, kinds))
    schedule.transform_layout(result, ("read", 0), _fused(out, "SIJ"))
    schedule.transform_block_layout(anchor, _fused(block, "SIJK"))


def _fused(axes: list[IterTrait], kinds: str) -> tirx.IndexMap:
    return make_iter_fusion_index_map(axes, [IterKind[f"kIter_{kind}"] for kind in kinds])


def _separate_open_rows(axes: list[IterTrait]) -> None:
    """Where a length among the rows is open, those before the last run of known ones become batches.

    TVM can't follow indices through a padded length such as ``(n * 196 + 63) // 64 * 64``, only through ``n``'s.
    """
    rows = [axis for axis in axes if axis.kind == IterKind.kIter_I]
    if all(as_int(axis.extent) is not None for axis in rows) or len(rows) == 1:
        return
    if any(axis.kind == IterKind.kIter_S for axis in axes):
        raise ValueError("open rows of several lengths, in batches")
    last_open = max(index for index, axis in enumerate(rows) if as_int(axis.extent) is None)
    for axis in rows[: min(last_open + 1, len(rows) - 1)]:
        axis.kind = IterKind.kIter_S


def _apply(schedule: Schedule, anchor: SBlockRV, tile: Tile, dtype: str) -> None:
    _normalize(schedule, anchor)
    schedule.pad_einsum(anchor, [1, tile.rows, tile.columns, tile.depth_squares * SIDE])
    batch, i, j, k = schedule.get_loops(anchor)
    i, i_inner = schedule.split(i, [None, SIDE])
    j, j_inner = schedule.split(j, [None, SIDE])
    k, k_inner = schedule.split(k, [None, SIDE])
    schedule.reorder(i, j, k, i_inner, j_inner, k_inner)
    squares = schedule.blockize(i_inner)
    i_block, i_warp, i_square = schedule.split(i, [None, tile.row_warps, tile.row_squares])
    j_block, j_warp, j_square = schedule.split(j, [None, tile.column_warps, tile.column_squares])
    piece, k_square = schedule.split(k, [None, tile.depth_squares])
    schedule.reorder(batch, i_block, j_block, i_warp, j_warp, piece, k_square, i_square, j_square)
    warp = schedule.fuse(i_warp, j_warp)
    schedule.bind(schedule.fuse(batch, i_block, j_block), "blockIdx.x")  # of y and z there are 65535 at most
    schedule.bind(warp, "threadIdx.y")
    schedule.annotate(warp, "pragma_unroll_explicit", 0)  # by NVRTC, from a source of a fraction of the size
    for operand in (0, 1):
        _fetch(schedule, squares, operand, piece, tile.row_warps * tile.column_warps, 8 if dtype == "float16" else 4)
    _write(schedule, squares, warp, tile)
    sums = schedule.decompose_reduction(squares, piece)
    (start,) = schedule.get_child_blocks(sums)
    for loop in (k_square, i_square, j_square):
        schedule.unroll(loop)
    schedule.tensorize(schedule.get_loops(start)[-2], FILL)
    schedule.tensorize(schedule.get_loops(anchor)[-3], PRODUCTS[dtype])


def _fetch(schedule: Schedule, squares: SBlockRV, operand: int, piece: Any, warps: int, padding: int) -> None:
    """Copies the piece of an operand into shared memory, all threads together; rows are padded against conflicts."""
    shared = schedule.cache_read(squares, operand, "shared")
    schedule.compute_at(shared, piece)
    auto_inline_producers(schedule, shared)
    loops = schedule.get_loops(shared)[-2:]
    if _runs_along_lines(schedule.get(shared)):
        loops = loops[::-1]
        schedule.reorder(*loops)
    fused = schedule.fuse(*loops)
    _, warp, lane = schedule.split(fused, [None, warps, WARP])
    schedule.bind(lane, "threadIdx.x")
    schedule.bind(warp, "threadIdx.y")
    schedule.storage_align(shared, 0, axis=-2, factor=16, offset=padding)


def _runs_along_lines(block: tirx.SBlock) -> bool:
    """Whether neighbours in the operand's memory differ in the row or column of the result, not in the depth."""
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(block.body, (TensorLoad, loads.append), order="post")
    line, depth = (block.iter_vars[index].var for index in (1, 2))
    last = loads[-1].indices[-1] if len(loads) == 1 else depth
    return depends_on(last, [line]) and not depends_on(last, [depth])


def _write(schedule: Schedule, squares: SBlockRV, warp: Any, tile: Tile) -> None:
    """A square at a time: sums into shared memory, then what follows the product into the result."""
    shared = schedule.cache_write(squares, 0, "shared")
    sums = schedule.cache_write(squares, 0, "wmma.accumulator")
    rows, columns = tile.row_squares, tile.column_squares
    schedule.transform_layout(  # a warp needs room for one square at a time
        sums,
        ("write", 0),
        lambda s, i, j: (s, i // (SIDE * rows), i // SIDE % rows, j // (SIDE * columns), j // SIDE % columns,
                         i % SIDE, j % SIDE),
    )  # fmt: skip
    schedule.reverse_compute_at(sums, warp)
    i, j = schedule.get_loops(sums)[-2:]
    i, i_inner = schedule.split(i, [None, SIDE])
    j, j_inner = schedule.split(j, [None, SIDE])
    schedule.reorder(i, j, i_inner, j_inner)
    schedule.reverse_compute_at(shared, j)
    schedule.storage_align(sums, 0, axis=-2, factor=16, offset=4)
    schedule.unroll(i)
    schedule.unroll(j)
    schedule.tensorize(i_inner, STORE)
    auto_inline_consumer_chain(schedule, shared)
    fused = schedule.fuse(*schedule.get_loops(shared)[-2:])
    _, lane = schedule.split(fused, [None, WARP])
    schedule.bind(lane, "threadIdx.x")
