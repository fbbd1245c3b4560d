"""Depthwise 2-D convolution, channels last: vectors of channels, a register tile of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import PEEL_KEY, TEMPLATE_KEY, as_int
from .conv2d import output_size
from .matmul import unroll_tile
from .template import Parameters, register
from .tiles import BLOCK, accumulators, finish_epilogue, registers_per_block, schedule_prologue

NAME = "depthwise_conv2d"


def pack(weight: np.ndarray) -> np.ndarray:
    """[C, 1, kh, kw] → [kh, kw, C]."""
    return np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))


def pixel_tile(width: Any, kernel: int, target: Target) -> int:
    """Pixels of the register tile. ``kernel`` is the window's width: unrolled taps want registers too."""
    limit = accumulators(target) // registers_per_block(target) // 2
    known = as_int(width)
    if known is None:
        return min(4, limit)
    fitting = range(1, min(known, limit, 8) + 1)
    return max(fitting, key=lambda t: (known / (-(-known // t) * t), t))


def depthwise_conv2d(
    data: te.Tensor,
    weight: te.Tensor,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    tile: int,
    dtype: str = "",
) -> te.Tensor:
    """[N, H, W, C] x [kh, kw, C] → [N, H', W', C]; ``dtype`` is that of the sums, by default the data's.

    Padding is no copy of the data: taps outside of it are skipped (``passes/peel_borders.py``). Whole tiles are
    computed: pixels past the row's last are as if there were padding, or repeat it where there is none.
    """
    kh, kw, _ = (int(dim) for dim in weight.shape)
    n, h, w, channels = data.shape
    top, left, bottom, right = padding
    rows = output_size(h, kh, strides[0], dilation[0], top, bottom)
    columns = output_size(w, kw, strides[1], dilation[1], left, right)
    width = tirx.floordiv(columns + tile - 1, tile) * tile
    ry, rx = te.reduce_axis((0, kh), name="ry"), te.reduce_axis((0, kw), name="rx")

    def pixel(b: Any, y: Any, x: Any, c: Any) -> Any:
        row = y * strides[0] + ry * dilation[0] - top
        column = (x if left or right else tirx.min(x, columns - 1)) * strides[1] + rx * dilation[1] - left
        value, taps = data[b, row, column, c], weight[ry, rx, c]
        if dtype:
            value, taps = value.astype(dtype), taps.astype(dtype)
        inside = [row >= 0] * (top > 0) + [row < h] * (bottom > 0)
        inside += [column >= 0, column < w] * (left > 0 or right > 0)
        if inside:
            value = tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, dtype or data.dtype))
        return te.sum(value * taps, axis=[ry, rx])

    padded = (n, rows, width, channels)
    tiles = te.compute(padded, pixel, name="depthwise", attrs={TEMPLATE_KEY: NAME, "pixels": tile})
    return te.compute((n, rows, columns, channels), lambda *index: tiles[index], name="pixels")


class DepthwiseConv2d:
    """Parameters: ``vectors``, the vectors of channels of a tile. The pixels are fixed by the expression."""

    name = NAME
    version = 1

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]:
        return {"vectors": [1]}

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters:
        return {"vectors": 1}

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None:
        pixels = int(schedule.get(anchor).annotations["pixels"])
        before, output = finish_epilogue(schedule, anchor)
        n, y, x, c, ry, rx = schedule.get_loops(anchor)
        lanes = self._lanes(schedule, c)
        x_tile, x_inner = schedule.split(x, [None, pixels])
        c_tile, lane = schedule.split(c, [None, lanes])
        # Channels inside: rows of the input are then read from end to end, as caches like it.
        schedule.reorder(n, y, x_tile, c_tile, ry, rx, x_inner, lane)
        schedule.reverse_compute_at(output, c_tile)
        schedule.annotate(x_tile, PEEL_KEY, True)
        schedule.vectorize(schedule.get_loops(output)[-1])
        unroll_tile(schedule, output, c_tile)
        schedule.vectorize(lane)
        for loop in (x_inner, rx):  # a loop over the window's rows, so that those outside are skipped in one branch
            schedule.unroll(loop)
        schedule.parallel(schedule.fuse(n, y))
        schedule_prologue(schedule, before, target)
        schedule.decompose_reduction(anchor, ry)

    def _lanes(self, schedule: Schedule, loop: Any) -> int:
        """The widest vector that divides the channels, else a full one with its tail peeled."""
        size = as_int(schedule.get(loop).extent) or BLOCK
        return next((lanes for lanes in (16, 8, 4) if size % lanes == 0), BLOCK)


register(DepthwiseConv2d())
