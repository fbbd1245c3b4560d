"""Dense 2-D convolution, channels last, constant packed weights: a register tile of pixels by 16-lane blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.sym import Analyzer

from ..targets import Target
from .blocks import TEMPLATE_KEY, as_int, extent
from .generic import PARALLEL_MIN_WORK
from .matmul import write_tile
from .template import Parameters, register
from .tiles import (
    BLOCK,
    best_tile,
    best_width,
    finish_epilogue,
    prefetch_weights,
    schedule_prologue,
    sum_length,
    tile_score,
    weights_stay,
)

NAME = "conv2d"
FLOAT_BYTES, LINE_BYTES = 4, 64
FLAT_LOOPS = 6
"""Loops around an anchor whose pixels lie in one axis: batch, pixels, outputs, and the three of the sums."""

FLAT_GAIN = 1.05
"""How much faster tiles across rows must promise to be: their pixels' places are computed one by one."""
MANY_PANELS = 8
"""Tiles of output channels from which on there is work for several threads without dividing the rows among them."""


def pack(weight: np.ndarray) -> np.ndarray:
    """[O, C, kh, kw] → [ceil(O / 16), kh, kw, C, 16], zeros in the last block's unused channels."""
    out, channels, height, width = weight.shape
    blocks = -(-out // BLOCK)
    padded = np.zeros((blocks * BLOCK, channels, height, width), weight.dtype)
    padded[:out] = weight
    return np.ascontiguousarray(padded.reshape(blocks, BLOCK, channels, height, width).transpose(0, 3, 4, 2, 1))


def pack_grouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """[O, C / groups, kh, kw] → [ceil(O / 16), kh, kw, R, 16]: R input channels serve the 16 outputs of any block.

    A block may span several groups: each output has zeros for the channels of the others. That multiplies in vain, but
    in whole vectors, which narrow groups would not fill.
    """
    out, per_group, height, width = weight.shape
    outputs = out // groups
    blocks = -(-out // BLOCK)
    spans = [_span(block, outputs, out) for block in range(blocks)]
    reach = max(last - first + 1 for first, last in spans) * per_group
    packed = np.zeros((blocks, height, width, reach, BLOCK), weight.dtype)
    for o in range(out):
        start = (o // outputs - spans[o // BLOCK][0]) * per_group
        packed[o // BLOCK, :, :, start : start + per_group, o % BLOCK] = weight[o].transpose(1, 2, 0)
    return packed


def _span(block: int, outputs: int, out: int) -> tuple[int, int]:
    """The first and last group that a block of 16 outputs belongs to; ``outputs`` is their number per group."""
    return block * BLOCK // outputs, (min((block + 1) * BLOCK, out) - 1) // outputs


def output_size(size: Any, kernel: int, stride: int, dilation: int, before: int, after: int) -> Any:
    """Output rows or columns of a convolution along one axis, simplified where symbolic."""
    result = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    return result if isinstance(result, int) else Analyzer().simplify(result)


def pixel_tile(width: Any, out_channels: int, depth: int, target: Target) -> int:
    """Pixels of the register tile, part of the expression, because it rounds the computed width up.

    ``depth`` is the number of products of a sum: taps times input channels.
    """
    return best_tile(as_int(width), -(-out_channels // BLOCK), target, depth)[0]


def flat_tile(height: Any, width: Any, out_channels: int, depth: int, target: Target) -> int | None:
    """Pixels of a tile that runs on from one row into the next, where that wastes less; None where it doesn't pay.

    A row of 7 takes two tiles of 4, an eighth of it in vain, but 49 pixels ten tiles of 5. Where a pixel lies is then
    computed for each one, so rows that tiles nearly fill stay as they are.
    """
    rows, columns = as_int(height), as_int(width)
    if rows is None or columns is None or rows == 1:
        return None
    blocks = -(-out_channels // BLOCK)
    tile, along = best_tile(rows * columns, blocks, target, depth), best_tile(columns, blocks, target, depth)
    gain = tile_score(tile, rows * columns, target, depth) / tile_score(along, columns, target, depth)
    return tile[0] if gain >= FLAT_GAIN else None


def pad_spatial(data: te.Tensor, padding: Sequence[int], needed: Sequence[Any], always: bool = False) -> te.Tensor:
    """Zeros around height and width; ``padding`` is (top, left, bottom, right). Without any, no copy unless ``always``.

    The result has the ``needed`` rows and columns, expressed in the output's: that every pixel read is there can then
    be seen without knowing how input and output sizes relate.
    """
    if not any(padding) and not always:
        return data
    top, left, _, _ = padding
    n, h, w, c = data.shape

    def padded(b: Any, y: Any, x: Any, ch: Any) -> Any:
        inside = tirx.all(y >= top, y < h + top, x >= left, x < w + left)
        return tirx.if_then_else(inside, data[b, y - top, x - left, ch], tirx.const(0, data.dtype))

    return te.compute((n, *needed, c), padded, name="pad")


def pad_channels_first(data: te.Tensor, padding: Sequence[int], needed: Sequence[Any]) -> te.Tensor:
    """``pad_spatial`` of an image [N, C, H, W], which stays in that order."""
    if not any(padding):
        return data
    top, left, _, _ = padding
    n, c, h, w = data.shape

    def padded(b: Any, ch: Any, y: Any, x: Any) -> Any:
        inside = tirx.all(y >= top, y < h + top, x >= left, x < w + left)
        return tirx.if_then_else(inside, data[b, ch, y - top, x - left], tirx.const(0, data.dtype))

    return te.compute((n, c, *needed), padded, name="pad_channels_first")


def needed_size(outputs: Any, kernel: int, stride: int, dilation: int) -> Any:
    """Input rows or columns that ``outputs`` windows cover."""
    return (outputs - 1) * stride + dilation * (kernel - 1) + 1


def conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    out_channels: int,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    tile: int,
    groups: int = 1,
    channels_first: bool = False,
    flat: bool = False,
) -> te.Tensor:
    """[N, H, W, C] x packed [ceil(O / 16), kh, kw, C, 16] → [N, H', W', O]; C is a fixed number.

    The weights of several ``groups`` are those of ``pack_grouped``. ``channels_first`` says that the input is
    [N, C, H, W]: the kernel reads single values, for which any order does.

    Whole tiles are computed: pixels past the row's last repeat it, so no load leaves the buffer. ``flat`` tiles run on
    from row to row, and pixels past the image's last repeat that; the output's sizes must be known for it.
    """
    _, kh, kw, channels, _ = (int(dim) for dim in weight.shape)
    n, total = data.shape[0], data.shape[1 if channels_first else 3]
    h, w = data.shape[2:] if channels_first else data.shape[1:3]
    top, left, bottom, right = padding
    rows = output_size(h, kh, strides[0], dilation[0], top, bottom)
    columns = output_size(w, kw, strides[1], dilation[1], left, right)
    width = columns if flat else tirx.floordiv(columns + tile - 1, tile) * tile
    needed = (needed_size(rows, kh, strides[0], dilation[0]), needed_size(width, kw, strides[1], dilation[1]))
    source = (pad_channels_first if channels_first else pad_spatial)(data, padding, needed)
    ry, rx, rc = (te.reduce_axis((0, size), name=name) for size, name in ((kh, "ry"), (kw, "rx"), (channels, "rc")))

    def pixel(b: Any, y: Any, x: Any, o: Any) -> Any:
        column = (x if any(padding) else tirx.min(x, columns - 1)) * strides[1] + rx * dilation[1]
        first = o // BLOCK * BLOCK // (out_channels // groups) * (total // groups)
        channel = rc if groups == 1 else tirx.min(first + rc, total - 1)  # past the last one weights are zero
        row = y * strides[0] + ry * dilation[0]
        value = source[b, channel, row, column] if channels_first else source[b, row, column, channel]
        return te.sum(value * weight[o // BLOCK, ry, rx, rc, o % BLOCK], axis=[ry, rx, rc])

    attrs = {TEMPLATE_KEY: NAME, "pixels": tile, "groups": groups}
    shape = (n, rows, columns, out_channels)
    if flat:
        return _flat_pixels(pixel, shape, weight.shape[0] * BLOCK, tile, attrs)
    tiles = te.compute((n, rows, width, weight.shape[0] * BLOCK), pixel, name="conv2d", attrs=attrs)
    return te.compute(shape, lambda *index: tiles[index], name="pixels")


def _flat_pixels(pixel: Any, shape: tuple[Any, ...], lanes: Any, tile: int, attrs: dict[str, Any]) -> te.Tensor:
    """All pixels of an image in one axis, and the image of them again."""
    n, rows, columns, out_channels = shape
    count = rows * columns

    def numbered(b: Any, p: Any, o: Any) -> Any:
        known = tirx.min(p, count - 1)
        return pixel(b, tirx.floordiv(known, columns), tirx.floormod(known, columns), o)

    tiles = te.compute((n, -(-count // tile) * tile, lanes), numbered, name="conv2d", attrs=attrs)
    pixels = te.compute((n, count, out_channels), lambda *index: tiles[index], name="pixels")
    return te.compute(shape, lambda b, y, x, o: pixels[b, y * columns + x, o], name="image")


class Conv2d:
    """Parameters: ``blocks``, the 16-lane blocks of a tile. The pixels are fixed by the expression."""

    name = NAME
    version = 2

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        if int(schedule.get(anchor).annotations["groups"]) > 1:
            return {"blocks": [1]}  # blocks read channels of their own, so there is nothing to share
        count = (extent(schedule, schedule.get_loops(anchor)[-4]) or BLOCK) // BLOCK
        return {"blocks": [n for n in range(1, 9) if count % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        pixels = int(schedule.get(anchor).annotations["pixels"])
        depth = sum_length(schedule, anchor, 3)
        return {"blocks": best_width(pixels, self.space(schedule, anchor, target)["blocks"], target, depth)}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        pixels = int(schedule.get(anchor).annotations["pixels"])
        is_flat = len(schedule.get_loops(anchor)) == FLAT_LOOPS
        if is_flat:
            schedule.compute_inline(schedule.get_consumers(anchor)[0])
        before, output = finish_epilogue(schedule, anchor)
        if is_flat:
            _number_pixels(schedule, output)
        n, *y, x, o, ry, rx, rc = schedule.get_loops(anchor)
        lines = parameters["blocks"] * sum_length(schedule, anchor, 3)
        x_tile, x_inner = schedule.split(x, [None, pixels])
        o_tile, o_block, lane = schedule.split(o, [None, parameters["blocks"], BLOCK])
        stay = weights_stay(schedule, anchor, FLOAT_BYTES, target)
        in_rows = bool(y) and extent(schedule, y[0]) != 1
        along = y if in_rows else [*y, x_tile]
        outer = [n, *along, o_tile] if stay else [n, o_tile, *along]
        schedule.reorder(*outer, *([x_tile] if in_rows else []), ry, rx, rc, x_inner, o_block, lane)
        write_tile(schedule, anchor, output, x_tile if in_rows or not stay else o_tile)
        schedule.vectorize(lane)
        schedule.unroll(o_block)
        schedule.unroll(x_inner)
        streamed = not stay and (extent(schedule, o_tile) or 0) >= MANY_PANELS
        known = all(extent(schedule, loop) is not None for loop in along)
        if self._is_large(schedule, anchor):
            schedule.parallel(schedule.fuse(*(outer[:2] if streamed else outer)))
        schedule_prologue(schedule, before, target)
        schedule.decompose_reduction(anchor, ry)
        if streamed and known and LINE_BYTES * lines <= target.l2:
            prefetch_weights(schedule, anchor, lines)

    def _is_large(self, schedule: Schedule, anchor: SBlockRV) -> bool:
        work = 1
        for loop in schedule.get_loops(anchor):
            size = extent(schedule, loop)
            if size is None:
                return True
            work *= size
        return work >= 4 * PARALLEL_MIN_WORK


def _number_pixels(schedule: Schedule, output: SBlockRV) -> None:
    """Rows and columns of the block that writes the image become one axis, as its tiles have it."""
    columns = schedule.get(output).iter_vars[2].dom.extent
    schedule.transform_block_layout(output, lambda b, y, x, o: (b, y * columns + x, o))


register(Conv2d())
