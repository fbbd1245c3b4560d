"""3x3 convolution with stride 1 by Winograd's F(4x4, 3x3): 36 products where a direct kernel needs 144.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015); the matrices are theirs. Each 4x4 tile of
the output comes from a 6x6 tile of the input. Tiles are worked on in blocks of whole tile rows, small enough for the
transformed block to stay in the second-level cache, large enough to use each weight many times.

Error: intermediate values grow by at most the product of the matrices' norms, about 100 times the direct kernel's
rounding; with inputs and weights of random sign it is near 1e-5 of the largest output (tested).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import TEMPLATE_KEY, all_blocks, as_int, extent
from .conv2d import output_size, pad_spatial
from .generic import schedule_block
from .template import Parameters, register
from .tiles import BLOCK, accumulators, best_tile, finish_epilogue, prefetch_weights, registers_per_block

NAME = "winograd_conv2d"
OUT, TAPS = 4, 3
IN = OUT + TAPS - 1

_INPUT = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
     [0, 4, 0, -5, 0, 1]], np.float64)  # fmt: skip
_WEIGHT = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
     [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], np.float64)  # fmt: skip
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64)


def pays(channels: int, out_channels: int, rows: Any, columns: Any, target: Target) -> bool:
    """Whether the transforms cost less than they save.

    That takes enough channels on both sides and enough tiles to use each transformed weight for: of a symbolic size
    only one row of tiles is sure, so the weights have to stay in the cache from one row to the next.
    """
    if channels % BLOCK or channels < 32 or out_channels < 24:
        return False
    down, across = _tiles(rows), _tiles(columns)
    if down is None or across is None:
        return _weight_bytes(channels, out_channels) <= target.l2 // 2
    return down * across >= 12


def _tiles(size: Any) -> int | None:
    """Tiles along an axis, None where its size is symbolic."""
    known = as_int(size)
    return None if known is None else -(-known // OUT)


def _weight_bytes(channels: int, out_channels: int) -> int:
    return 4 * IN * IN * channels * -(-out_channels // BLOCK) * BLOCK


def pack(weight: np.ndarray) -> np.ndarray:
    """[O, C, 3, 3] → transformed [6, 6, ceil(O / 16), C, 16], in float64 before rounding to float32."""
    out, channels, _, _ = weight.shape
    blocks = -(-out // BLOCK)
    padded = np.zeros((blocks * BLOCK, channels, TAPS, TAPS))
    padded[:out] = weight
    transformed = np.einsum("ei,fj,ocij->efoc", _WEIGHT, _WEIGHT, padded, optimize=True)
    split = transformed.reshape(IN, IN, blocks, BLOCK, channels).transpose(0, 1, 2, 4, 3)
    return np.ascontiguousarray(split, dtype=np.float32)


def block_shape(rows: Any, columns: Any, channels: int, out_channels: int, target: Target) -> tuple[int, int]:
    """(tile rows of a block, tiles of a register tile) for an output of that size.

    Weights that stay in the cache make blocks of a few tiles best; others are streamed once a block, which then should
    be as large as the cache allows.
    """
    blocks = -(-out_channels // BLOCK)
    down, across = _tiles(rows), _tiles(columns)
    if across is None:
        return 1, min(best_tile(None, blocks, target)[0], 6)
    if _weight_bytes(channels, out_channels) <= target.l2 // 2:
        wanted = 14
    else:
        wanted = max(1, target.l2 // (4 * IN * IN * (channels + out_channels)))
    count = max(1, min(wanted // across, down or 1))
    if down is not None:
        count = -(-down // -(-down // count))  # blocks of equal size
    return count, _tile_height(count * across, blocks, channels, target)


def _tile_height(tiles: int, blocks: int, channels: int, target: Target) -> int:
    """Rows of the register tile, next to as many blocks of weights as the first-level cache holds for all of K."""
    room = max(1, target.l1 * 3 // 4 // (BLOCK * 4 * channels))
    width = max(n for n in range(1, min(room, 8) + 1) if blocks % n == 0)
    limit = accumulators(target) // registers_per_block(target) // min(width, 4)
    fitting = range(1, max(1, min(tiles, limit, 8)) + 1)
    return max(fitting, key=lambda rows: (tiles / (-(-tiles // rows) * rows) * min(1.0, rows * width / 10), rows))


def _coefficient(matrix: np.ndarray, row: Any, column: Any) -> Any:
    """An entry of a constant matrix by symbolic indices; unrolled loops leave the number alone."""
    result = tirx.const(float(matrix[-1, -1]), "float32")
    for i, j in reversed(list(np.ndindex(*matrix.shape))[:-1]):
        result = tirx.Select(tirx.all(row == i, column == j), tirx.const(float(matrix[i, j]), "float32"), result)
    return result


def winograd_conv2d(
    data: te.Tensor, weight: te.Tensor, out_channels: int, padding: Sequence[int], tile_rows: int, tile: int
) -> te.Tensor:
    """[N, H, W, C] x transformed [6, 6, ceil(O / 16), C, 16] → [N, H', W', O].

    ``tile_rows`` rows of tiles make a block; ``tile`` rows a register tile of the products. Whole blocks are computed.
    """
    n, h, w, channels = data.shape
    top, left, bottom, right = padding
    rows, columns = output_size(h, TAPS, 1, 1, top, bottom), output_size(w, TAPS, 1, 1, left, right)
    across = tirx.floordiv(columns + OUT - 1, OUT)
    down = tirx.floordiv(rows + OUT * tile_rows - 1, OUT * tile_rows)
    count = tirx.floordiv(across * tile_rows + tile - 1, tile) * tile
    # Always padded: the last tiles of a block lie partly or wholly outside.
    source = pad_spatial(data, (top, left, bottom, right), (down * tile_rows * OUT + 2, across * OUT + 2), always=True)
    wide = weight.shape[2] * BLOCK
    a, b = te.reduce_axis((0, IN), name="a"), te.reduce_axis((0, IN), name="b")

    def columns_transformed(g: Any, p: Any, e: Any, x: Any, c: Any) -> Any:
        place = tirx.min(p, across * tile_rows - 1)
        y = (g % down * tile_rows + place // across) * OUT + a
        return te.sum(_coefficient(_INPUT, e, a) * source[g // down, y, place % across * OUT + x, c], axis=a)

    groups = n * down
    half = te.compute((groups, count, IN, IN, channels), columns_transformed, name="input_columns")
    tiles = te.compute(
        (groups, IN, IN, count, channels),
        lambda g, e, f, p, c: te.sum(half[g, p, e, b, c] * _coefficient(_INPUT, f, b), axis=b),
        name="input_tiles",
    )
    k = te.reduce_axis((0, channels), name="k")
    product = te.compute(
        (groups, IN, IN, count, wide),
        lambda g, e, f, p, o: te.sum(tiles[g, e, f, p, k] * weight[e, f, o // BLOCK, k, o % BLOCK], axis=k),
        name="products",
        attrs={TEMPLATE_KEY: NAME, "rows": tile},
    )
    a2, b2 = te.reduce_axis((0, IN), name="a2"), te.reduce_axis((0, IN), name="b2")
    back = te.compute(
        (groups, count, OUT, IN, wide),
        lambda g, p, i, f, o: te.sum(_coefficient(_OUTPUT, i, a2) * product[g, a2, f, p, o], axis=a2),
        name="output_columns",
    )
    finished = te.compute(
        (groups, count, OUT, OUT, wide),
        lambda g, p, i, j, o: te.sum(back[g, p, i, b2, o] * _coefficient(_OUTPUT, j, b2), axis=b2),
        name="output_tiles",
    )

    def pixel(i0: Any, y: Any, x: Any, o: Any) -> Any:
        row = y // OUT
        place = row % tile_rows * across + x // OUT
        return finished[i0 * down + row // tile_rows, place, y % OUT, x % OUT, o]

    return te.compute((n, rows, columns, out_channels), pixel, name="pixels")


class WinogradConv2d:
    """Parameters: ``blocks``, the 16-lane blocks of a register tile of the products."""

    name = NAME
    version = 1

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        count = (extent(schedule, schedule.get_loops(anchor)[4]) or BLOCK) // BLOCK
        return {"blocks": [n for n in range(1, 9) if count % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        rows = int(schedule.get(anchor).annotations["rows"])
        depth = extent(schedule, schedule.get_loops(anchor)[-1]) or 1
        registers = accumulators(target) // (rows * registers_per_block(target))
        limit = max(1, min(registers, target.l1 * 3 // 4 // (BLOCK * 4 * depth)))
        return {"blocks": max(n for n in self.space(schedule, anchor, target)["blocks"] if n <= limit)}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        blocks = {schedule.get(block).name_hint: block for block in all_blocks(schedule)}
        finished = blocks["output_tiles"]
        before, output = finish_epilogue(schedule, finished)
        group = schedule.get_loops(finished)[0]
        schedule.parallel(group)
        self._transform(schedule, finished, blocks["output_columns"], anchor=None)
        schedule.compute_at(anchor, group)
        self._products(schedule, anchor, parameters["blocks"])
        schedule.compute_at(blocks["input_tiles"], group)
        self._transform(schedule, blocks["input_tiles"], blocks["input_columns"], anchor=group)
        for block in [b for b in before if schedule.get(b).name_hint == "pad"]:
            schedule_block(schedule, block, target.vector_lanes)
        schedule_block(schedule, output, target.vector_lanes)
        schedule.decompose_reduction(anchor, schedule.get_loops(anchor)[-4])
        prefetch_weights(schedule, anchor)

    def _transform(self, schedule: Schedule, second: SBlockRV, first: SBlockRV, anchor: Any) -> None:
        """Both halves of a transform over one tile and one vector of channels, in registers."""
        *_, one, two, three, channel, reduced = schedule.get_loops(second)
        tile, unrolled = (one, (two, three)) if anchor is None else (three, (one, two))
        outer, lane = schedule.split(channel, [None, BLOCK])
        schedule.reorder(tile, outer, *unrolled, reduced, lane)
        schedule.compute_at(first, outer)
        depth = len(schedule.get_loops(second)) - len((*unrolled, reduced, lane))
        inner = schedule.get_loops(first)[depth:]
        vector = next(loop for loop in inner if extent(schedule, loop) == BLOCK)
        others = [loop for loop in inner if not loop.same_as(vector)]
        schedule.reorder(*others, vector)
        for loop in (vector, lane):
            schedule.vectorize(loop)
        for loop in (*others, *unrolled, reduced):
            schedule.unroll(loop)

    def _products(self, schedule: Schedule, anchor: SBlockRV, width: int) -> None:
        *_, e, f, p, o, k = schedule.get_loops(anchor)
        rows = int(schedule.get(anchor).annotations["rows"])
        p_tile, p_inner = schedule.split(p, [None, rows])
        o_tile, o_block, lane = schedule.split(o, [None, width, BLOCK])
        schedule.reorder(e, f, o_tile, p_tile, k, p_inner, o_block, lane)
        written = schedule.cache_write(anchor, 0, "global")
        schedule.reverse_compute_at(written, p_tile)
        schedule.vectorize(schedule.split(schedule.get_loops(written)[-1], [None, BLOCK])[1])
        schedule.vectorize(lane)
        schedule.unroll(o_block)
        schedule.unroll(p_inner)


register(WinogradConv2d())
