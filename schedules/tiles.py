"""Register tiles: how many rows (or pixels) by 16-lane blocks of output channels a kernel keeps in registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.sym import Analyzer

from ..targets import Target
from .blocks import PREFETCH_KEY, all_blocks, extent
from .generic import schedule_block

BLOCK = 16
"""Output channels of a packed block: 64 bytes of fp32, on every CPU, so that one weights file serves them all."""


def accumulators(target: Target) -> int:
    """Vector registers to hold sums in; the rest carries weights and broadcast inputs."""
    return 26 if target.vector_lanes == 16 else 12


def registers_per_block(target: Target) -> int:
    return max(1, BLOCK // target.vector_lanes)


def tiles(rows: int | None, blocks: int, target: Target) -> Iterator[tuple[int, int]]:
    """(rows, blocks) pairs that fit the registers; the number of blocks divides ``blocks``.

    ``rows`` None stands for a symbolic number of them.
    """
    limit = accumulators(target) // registers_per_block(target)
    for width in range(1, min(blocks, 8) + 1):
        if blocks % width == 0:
            for height in range(1, min(limit // width, rows or limit) + 1):
                if height == 1 or fits(height, width, target):
                    yield height, width


def fits(height: int, width: int, target: Target) -> bool:
    """Whether sums, one step's weights and an input fit the registers together; sums that don't are spilled."""
    per_row = width * registers_per_block(target)
    return height * per_row + per_row + 1 <= (32 if target.vector_lanes == 16 else 16)


def best_tile(rows: int | None, blocks: int, target: Target, depth: int | None = None) -> tuple[int, int]:
    """The tile with most multiply-adds per load, counting the rows that the last tile computes in vain.

    ``depth`` is the number of products of a sum, None where each weight is used in one tile only.
    """
    return max(tiles(rows, blocks, target), key=lambda tile: tile_score(tile, rows, target, depth))


def tile_score(tile: tuple[int, int], rows: int | None, target: Target, depth: int | None = None) -> float:
    """How fast a tile, rows by blocks, is, less what the last one of ``rows`` computes in vain."""
    height, width = tile
    if rows is None:
        useful = 1.0 if height <= 8 else 0.9  # a symbolic size wants a short tail
    else:
        useful = rows / (-(-rows // height) * height)
    return tile_speed(height, width, target, depth) * useful


def tile_speed(height: int, width: int, target: Target, depth: int | None = None) -> float:
    """How fast a tile of ``height`` rows by ``width`` blocks is, for comparison."""
    per_load = height * width / (height + width * registers_per_block(target))
    # Few sums in flight wait for the multiply-add's latency: 4 cycles on each of 2 ports.
    in_flight = min(1.0, height * width * registers_per_block(target) / 8)
    # Weights that don't stay in the first-level cache come from the second, which gives a third of a vector a cycle.
    stays = depth is None or width * BLOCK * 4 * depth <= target.l1 * 3 // 4
    enough = 3.0 if depth is None else 2.0
    fed = 1.0 if stays else min(1.0, height * BLOCK / (6 * target.vector_lanes))
    return min(per_load, enough) ** 0.5 * in_flight * fed


def best_width(height: int, widths: Iterable[int], target: Target, depth: int | None = None) -> int:
    """Of ``widths``, that of the fastest tile of ``height`` rows among those that fit the registers."""
    limit = max(1, accumulators(target) // (height * registers_per_block(target)))
    fitting = [n for n in widths if n == 1 or (n <= limit and (height == 1 or fits(height, n, target)))]
    return max(fitting, key=lambda n: (tile_speed(height, n, target, depth), n))


def sum_length(schedule: Schedule, anchor: SBlockRV, axes: int) -> int:
    """Products of one sum: the extents of the innermost ``axes`` loops, known numbers, before they are split."""
    length = 1
    for loop in schedule.get_loops(anchor)[-axes:]:
        length *= extent(schedule, loop) or 1
    return length


def weights_stay(schedule: Schedule, anchor: SBlockRV, itemsize: int, target: Target) -> bool:
    """Whether all weights stay in the second-level cache: then a row of the output is finished before the next.

    Written in passes over the whole image instead, a wide output (56x56x256: 3 MB) leaves the cache each time.
    ``itemsize`` is that of a weight, the second that the anchor reads, in bytes.
    """
    size = itemsize
    for dim in schedule.get(anchor).reads[1].source.shape:
        size *= int(dim)
    return size <= target.l2 // 4


def finish_epilogue(schedule: Schedule, anchor: SBlockRV) -> tuple[list[SBlockRV], SBlockRV]:
    """(blocks before the anchor, the one block after it) once all between anchor and output are inlined.

    So are blocks before it that compute one number from others, such as the scale of a quantized product: TVM's rfactor
    fails beside a block without loops.
    """
    for block in all_blocks(schedule):
        if not schedule.get_loops(block) and schedule.get_consumers(block):
            schedule.compute_inline(block)
    blocks = all_blocks(schedule)
    names = [schedule.get(block).name_hint for block in blocks]
    position = names.index(schedule.get(anchor).name_hint)
    last = _last_of_shape(schedule, anchor, blocks[position + 1 :])
    for block in blocks[position + 1 : -1]:
        if not block.same_as(last):
            schedule.compute_inline(block)
    if not blocks[-1].same_as(last):
        schedule_block(schedule, blocks[-1], BLOCK)
    return blocks[:position], last


def _last_of_shape(schedule: Schedule, anchor: SBlockRV, behind: list[SBlockRV]) -> SBlockRV:
    """The last block that computes the anchor's result on in its own shape.

    That is the last one of all, but where a result with an axis of 1 is broadcast by what was fused behind: such a
    block writes elements of many tiles at once, and needs loops of its own.
    """
    shapes = [list(schedule.get(block).writes[0].source.shape) for block in behind]
    if _same(shapes[0], shapes[-1]):
        return behind[-1]
    names, last = {schedule.get(anchor).name_hint}, behind[0]
    for block, shape in zip(behind, shapes, strict=True):
        if names & {schedule.get(source).name_hint for source in schedule.get_producers(block)}:
            names.add(schedule.get(block).name_hint)
            last = block if _same(shapes[0], shape) else last
    return last


def _same(left: list[Any], right: list[Any]) -> bool:
    analyzer = Analyzer()
    return len(left) == len(right) and all(map(analyzer.can_prove_equal, left, right))


def prefetch_weights(schedule: Schedule, anchor: SBlockRV, lines: int) -> None:
    """Mark the loop over input channels, around pixels, blocks and lanes of a register tile: the next ``lines`` cache
    lines of weights are fetched while these are used."""
    schedule.annotate(schedule.get_loops(anchor)[-4], PREFETCH_KEY, lines)


def schedule_prologue(schedule: Schedule, blocks: list[SBlockRV], target: Target) -> None:
    """Padding and the like run before the kernel, as loop nests of their own."""
    for block in blocks:
        schedule_block(schedule, block, target.vector_lanes)
