"""Dense 2-D convolution of bytes, channels last, constant packed weights: sums in int32, by ``dot_products``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import TEMPLATE_KEY, as_int, extent
from .conv2d import needed_size, output_size
from .dot_products import GROUP
from .int8_matmul import is_large, split_columns, tensorize_tile
from .matmul import write_tile
from .template import Parameters, register
from .tiles import BLOCK, best_tile, best_width, finish_epilogue, schedule_prologue, sum_length, weights_stay

NAME = "int8_conv2d"


def pack(weight: np.ndarray) -> np.ndarray:
    """int8 [O, C, kh, kw] → [ceil(O / 16), kh, kw, ceil(C / 4), 16, 4], zeros where there is no weight."""
    out, channels, height, width = weight.shape
    blocks, groups = -(-out // BLOCK), -(-channels // GROUP)
    padded = np.zeros((blocks * BLOCK, groups * GROUP, height, width), weight.dtype)
    padded[:out, :channels] = weight
    shaped = padded.reshape(blocks, BLOCK, groups, GROUP, height, width)
    return np.ascontiguousarray(shaped.transpose(0, 4, 5, 2, 1, 3))


def pixel_tile(width: Any, out_channels: int, depth: int, target: Target) -> int:
    """Pixels of the register tile; ``depth`` is the number of products of a sum, taps times input channels."""
    return best_tile(as_int(width), -(-out_channels // BLOCK), target, -(-depth // GROUP))[0]


def padded_input(data: te.Tensor, padding: Sequence[int], needed: Sequence[Any], channels: int, zero: int) -> te.Tensor:
    """``zero`` around height and width and behind the channels; no copy where nothing is to be added."""
    if not any(padding) and channels % GROUP == 0:
        return data
    top, left, _, _ = padding
    n, h, w, _ = data.shape
    filled = -(-channels // GROUP) * GROUP

    def element(b: Any, y: Any, x: Any, ch: Any) -> Any:
        inside = [y >= top, y < h + top, x >= left, x < w + left]
        value = data[b, y - top, x - left, ch if filled == channels else tirx.min(ch, channels - 1)]
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(zero, data.dtype))

    return te.compute((n, *needed, tirx.const(filled, "int64")), element, name="pad")


def int8_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    out_channels: int,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    tile: int,
    zero: int = 0,
) -> te.Tensor:
    """uint8 [N, H, W, C] x packed int8 [ceil(O / 16), kh, kw, ceil(C / 4), 16, 4] → int32 [N, H', W', O].

    ``padding`` is (top, left, bottom, right), of bytes ``zero``. Whole tiles are computed: pixels past the row's last
    repeat it. Nothing may overflow: 255 times the sum of an output's weights' magnitudes is below 2**31.
    """
    _, kh, kw, groups, _, _ = (int(dim) for dim in weight.shape)
    n, h, w, channels = data.shape
    top, left, bottom, right = padding
    rows = output_size(h, kh, strides[0], dilation[0], top, bottom)
    columns = output_size(w, kw, strides[1], dilation[1], left, right)
    width = tirx.floordiv(columns + tile - 1, tile) * tile
    needed = (needed_size(rows, kh, strides[0], dilation[0]), needed_size(width, kw, strides[1], dilation[1]))
    source = padded_input(data, padding, needed, int(channels), zero)
    copied = not source.same_as(data)
    sizes = (("ry", kh), ("rx", kw), ("rc", GROUP * groups))
    ry, rx, rc = (te.reduce_axis((0, tirx.const(size, "int64")), name=name) for name, size in sizes)

    def pixel(b: Any, y: Any, x: Any, o: Any) -> Any:
        column = (x if copied else tirx.min(x, columns - 1)) * strides[1] + rx * dilation[1]
        value = source[b, y * strides[0] + ry * dilation[0], column, rc].astype("int32")
        return te.sum(
            value * weight[o // BLOCK, ry, rx, rc // GROUP, o % BLOCK, rc % GROUP].astype("int32"), axis=[ry, rx, rc]
        )

    padded = (n, rows, width, weight.shape[0] * BLOCK)
    tiles = te.compute(padded, pixel, name="int8_conv2d", attrs={TEMPLATE_KEY: NAME, "pixels": tile})
    shape = (n, rows, columns, tirx.const(out_channels, "int64"))
    return te.compute(shape, lambda *index: tiles[index], name="pixels")


def schedule_padding(schedule: Schedule, blocks: Sequence[SBlockRV], target: Target) -> None:
    """A few channels are copied pixel by pixel: TVM fails where a vector over pixels meets a condition on them."""
    for block in blocks:
        loops = schedule.get_loops(block)
        channels = extent(schedule, loops[-1])
        if len(loops) != 4 or channels is None or channels >= BLOCK:
            schedule_prologue(schedule, [block], target)
            continue
        schedule.unroll(loops[-1])
        schedule.parallel(schedule.fuse(*loops[:2]))


class Int8Conv2d:
    """Parameters: ``blocks``, the 16-lane blocks of a tile. The pixels are fixed by the expression."""

    name = NAME
    version = 1

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        count = (extent(schedule, schedule.get_loops(anchor)[3]) or BLOCK) // BLOCK
        return {"blocks": [n for n in range(1, 9) if count % n == 0]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        pixels = int(schedule.get(anchor).annotations["pixels"])
        depth = sum_length(schedule, anchor, 3)
        blocks = self.space(schedule, anchor, target)["blocks"]
        return {"blocks": best_width(pixels, blocks, target, depth // GROUP)}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        pixels = int(schedule.get(anchor).annotations["pixels"])
        before, output = finish_epilogue(schedule, anchor)
        counts = [extent(schedule, loop) for loop in schedule.get_loops(anchor)]
        n, y, x, o, ry, rx, rc = schedule.get_loops(anchor)
        x_tile, x_inner = schedule.split(x, [None, pixels])
        o_tile, o_block, lane = split_columns(schedule, o, parameters["blocks"], target)
        group, byte = schedule.split(rc, [None, GROUP])
        outer = [n, y, o_tile] if weights_stay(schedule, anchor, 1, target) else [n, o_tile, y]
        schedule.reorder(*outer, x_tile, ry, rx, group, x_inner, o_block, lane, byte)
        write_tile(schedule, anchor, output, x_tile)
        if is_large(counts):
            schedule.parallel(schedule.fuse(*outer))
        schedule_padding(schedule, before, target)
        tensorize_tile(schedule, anchor, ry, (x_inner, o_block), (lane, byte), target)


register(Int8Conv2d())
