"""3x3 convolution with stride 1 by Winograd's algorithm, over the transforms of ``winograd_plan``.

Each tile of the output comes from a tile of the input that is two rows and columns larger. Tiles are worked on in
blocks of whole tile rows, small enough for the transformed block to stay in the second-level cache, large enough to
use each weight many times.

Error: with F(4x4) intermediate values grow by at most the product of the matrices' norms, about 100 times the direct
kernel's rounding; with inputs and weights of random sign it is near 1e-5 of the largest output (tested), with F(2x2)
near 2e-6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import TEMPLATE_KEY, all_blocks, as_int, extent
from .coefficients import coefficient
from .conv2d import output_size, pad_spatial
from .generic import schedule_block
from .template import Parameters, register
from .tiles import BLOCK, best_width, finish_epilogue, prefetch_weights
from .winograd_plan import TAPS, TRANSFORMS

NAME = "winograd_conv2d"
MANY_GROUPS = 1 << 20
"""Stands for an open number of blocks of tiles in an image."""


def winograd_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    out_channels: int,
    padding: Sequence[int],
    step: int,
    tile_rows: int,
    tile: int,
) -> te.Tensor:
    """[N, H, W, C] x transformed [in, in, ceil(O / 16), C, 16] → [N, H', W', O].

    ``step`` is the transform's output tile, ``tile_rows`` rows of tiles make a block, ``tile`` rows a register tile of
    the products. Whole blocks are computed.
    """
    size = TRANSFORMS[step].size
    inward, outward = f"winograd_input_{step}", f"winograd_output_{step}"
    n, h, w, channels = data.shape
    top, left, bottom, right = padding
    rows, columns = output_size(h, TAPS, 1, 1, top, bottom), output_size(w, TAPS, 1, 1, left, right)
    across = tirx.floordiv(columns + step - 1, step)
    down = tirx.floordiv(rows + step * tile_rows - 1, step * tile_rows)
    count = tirx.floordiv(across * tile_rows + tile - 1, tile) * tile
    # Always padded: the last tiles of a block lie partly or wholly outside.
    needed = (down * tile_rows * step + 2, across * step + 2)
    source = pad_spatial(data, (top, left, bottom, right), needed, always=True)
    wide = weight.shape[2] * BLOCK
    a, b = te.reduce_axis((0, size), name="a"), te.reduce_axis((0, size), name="b")

    def columns_transformed(g: Any, p: Any, e: Any, x: Any, c: Any) -> Any:
        place = tirx.min(p, across * tile_rows - 1)
        y = (g % down * tile_rows + place // across) * step + a
        value = source[g // down, y, place % across * step + x, c]
        return te.sum(coefficient(inward, e, a) * value, axis=a)

    groups = n * down
    half = te.compute((groups, count, size, size, channels), columns_transformed, name="input_columns")
    tiles = te.compute(
        (groups, size, size, count, channels),
        lambda g, e, f, p, c: te.sum(half[g, p, e, b, c] * coefficient(inward, f, b), axis=b),
        name="input_tiles",
    )
    k = te.reduce_axis((0, channels), name="k")
    product = te.compute(
        (groups, size, size, count, wide),
        lambda g, e, f, p, o: te.sum(tiles[g, e, f, p, k] * weight[e, f, o // BLOCK, k, o % BLOCK], axis=k),
        name="products",
        attrs={TEMPLATE_KEY: NAME, "rows": tile, "groups": as_int(down) or MANY_GROUPS},
    )
    a2, b2 = te.reduce_axis((0, size), name="a2"), te.reduce_axis((0, size), name="b2")
    back = te.compute(
        (groups, count, step, size, wide),
        lambda g, p, i, f, o: te.sum(coefficient(outward, i, a2) * product[g, a2, f, p, o], axis=a2),
        name="output_columns",
    )
    finished = te.compute(
        (groups, count, step, step, wide),
        lambda g, p, i, j, o: te.sum(back[g, p, i, b2, o] * coefficient(outward, j, b2), axis=b2),
        name="output_tiles",
    )

    def pixel(i0: Any, y: Any, x: Any, o: Any) -> Any:
        row = y // step
        place = row % tile_rows * across + x // step
        return finished[i0 * down + row // tile_rows, place, y % step, x % step, o]

    return te.compute((n, rows, columns, out_channels), pixel, name="pixels")


class WinogradConv2d:
    """Parameters: ``blocks``, the 16-lane blocks of a register tile of the products."""

    name = NAME
    version = 2

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        count = (extent(schedule, schedule.get_loops(anchor)[4]) or BLOCK) // BLOCK
        return {"blocks": [n for n in range(1, 9) if count % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        rows = int(schedule.get(anchor).annotations["rows"])
        depth = extent(schedule, schedule.get_loops(anchor)[-1]) or 1
        return {"blocks": best_width(rows, self.space(schedule, anchor, target)["blocks"], target, depth)}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        blocks = {schedule.get(block).name_hint: block for block in all_blocks(schedule)}
        finished = blocks["output_tiles"]
        before, output = finish_epilogue(schedule, finished)
        group = schedule.get_loops(finished)[0]
        loops = [self._transform(schedule, finished, blocks["output_columns"], anchor=None)]
        schedule.compute_at(anchor, group, preserve_unit_loops=True)
        loops.append(self._products(schedule, anchor, parameters["blocks"]))
        schedule.compute_at(blocks["input_tiles"], group, preserve_unit_loops=True)
        loops.append(self._transform(schedule, blocks["input_tiles"], blocks["input_columns"], anchor=group))
        for block in [b for b in before if schedule.get(b).name_hint == "pad"]:
            schedule.compute_at(block, group, preserve_unit_loops=True)
            schedule.vectorize(schedule.split(schedule.get_loops(block)[-1], [None, BLOCK])[1])
        schedule_block(schedule, output, target.vector_lanes)
        # Threads share the blocks of tiles; where an image has too few of these, the work inside of each.
        shared = loops if int(schedule.get(anchor).annotations["groups"]) < 2 * target.threads else [group]
        for loop in shared:
            schedule.parallel(loop)
        schedule.decompose_reduction(anchor, schedule.get_loops(anchor)[-4])
        depth = extent(schedule, schedule.get_loops(anchor)[-4]) or 1
        prefetch_weights(schedule, anchor, parameters["blocks"] * depth)

    def _transform(self, schedule: Schedule, second: SBlockRV, first: SBlockRV, anchor: Any) -> Any:
        """Both halves of a transform over one tile and one vector of channels, in registers; the loop over tiles."""
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
        return tile

    def _products(self, schedule: Schedule, anchor: SBlockRV, width: int) -> Any:
        """A matrix product for each place in a tile; the loop over these places."""
        *_, e, f, p, o, k = schedule.get_loops(anchor)
        rows = int(schedule.get(anchor).annotations["rows"])
        p_tile, p_inner = schedule.split(p, [None, rows])
        o_tile, o_block, lane = schedule.split(o, [None, width, BLOCK])
        places = schedule.fuse(e, f)
        schedule.reorder(places, o_tile, p_tile, k, p_inner, o_block, lane)
        written = schedule.cache_write(anchor, 0, "global")
        schedule.reverse_compute_at(written, p_tile)
        schedule.vectorize(schedule.split(schedule.get_loops(written)[-1], [None, BLOCK])[1])
        schedule.vectorize(lane)
        schedule.unroll(o_block)
        schedule.unroll(p_inner)
        return places


register(WinogradConv2d())
