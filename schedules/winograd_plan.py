"""Winograd's transforms, which of them pays for a 3x3 convolution, and how its tiles are grouped.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015); the matrices are theirs. F(m x m, 3 x 3)
computes m x m outputs by (m + 2) x (m + 2) products per pair of channels, where a direct kernel needs 9 m m. F(4x4)
saves most arithmetic; F(2x2) has less than half of its weights to read, which decides where few tiles use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..targets import Target
from .blocks import as_int
from .tiles import BLOCK, best_tile

TAPS = 3
BYTES_PER_CYCLE = 6
"""What one core reads from memory, roughly: 20 GB/s."""
CACHED_BYTES_PER_CYCLE = 16
"""What it reads from the last-level cache."""
HIDDEN = 0.5
"""The part of such reading that the products beside it don't hide."""
MAX_TILES = 100
"""Of a block: more tiles gain nothing, and one thread works on a block."""
TRANSFORM = 4
"""Cycles for each 64 bytes that are transformed: several passes through the second-level cache."""


@dataclass(frozen=True)
class Transform:
    """F(out x out, 3 x 3): ``input`` [in, in], ``weight`` [in, 3] and ``output`` [out, in], applied from both sides."""

    out: int
    input: np.ndarray
    weight: np.ndarray
    output: np.ndarray

    @property
    def size(self) -> int:
        """Rows and columns of an input tile."""
        return self.out + TAPS - 1


F2 = Transform(
    2,
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float64),
    np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]], np.float64),
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float64),
)
F4 = Transform(
    4,
    np.array(
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
         [0, 4, 0, -5, 0, 1]], np.float64),
    np.array(
        [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
         [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], np.float64),
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64),
)  # fmt: skip

TRANSFORMS = {transform.out: transform for transform in (F2, F4)}


@dataclass(frozen=True)
class Plan:
    """``tile_rows`` rows of tiles make a block; ``tile`` rows a register tile of the products."""

    transform: Transform
    tile_rows: int
    tile: int


def plan(channels: int, out_channels: int, rows: Any, columns: Any, target: Target) -> Plan | None:
    """The best way to a ``rows`` by ``columns`` output, None where a direct kernel is faster."""
    transform = choose(channels, out_channels, rows, columns, target)
    if transform is None:
        return None
    return plan_for(transform, channels, out_channels, rows, columns, target)


def choose(channels: int, out_channels: int, rows: Any, columns: Any, target: Target) -> Transform | None:
    """The transform that saves most time, if any.

    That takes enough channels on both sides and enough tiles to use each transformed weight for. Of a symbolic size
    only one row of tiles is sure, so the weights have to stay in the last-level cache from one row to the next: then
    rows of eight tiles and more, 32 pixels, are faster than a direct kernel.
    """
    if channels % BLOCK or channels < 32 or out_channels < 24:
        return None
    height, width = as_int(rows), as_int(columns)
    if height is None or width is None:
        return F4 if _weight_bytes(F4, channels, out_channels) <= 3 * target.l2 else None
    layer = Layer(channels, out_channels, height, width)
    measured = _chooser.get()(layer)
    if measured is not None:
        return TRANSFORMS.get(measured)
    cycles = costs(layer, target)
    return TRANSFORMS.get(min(cycles, key=lambda out: cycles[out]))


@dataclass(frozen=True)
class Layer:
    """A convolution of 3 x 3 that Winograd's transforms could compute, of fixed sizes: what an algorithm is chosen for.
    ``rows`` and ``columns`` are the output's."""

    channels: int
    out_channels: int
    rows: int
    columns: int


Chooser = Callable[[Layer], int | None]
"""Gives 0 for a direct kernel, 2 or 4 for F(2x2) or F(4x4), None where the formula is to choose."""

_chooser: ContextVar[Chooser] = ContextVar("chooser", default=lambda layer: None)


@contextmanager
def chosen_by(chooser: Chooser) -> Iterator[None]:
    """Within, ``choose`` does what ``chooser`` says: what was measured goes before any formula."""
    token = _chooser.set(chooser)
    try:
        yield
    finally:
        _chooser.reset(token)


def costs(layer: Layer, target: Target) -> dict[int, float]:
    """Estimated cycles of one core by the algorithm's number (0, 2, 4), the direct kernel first."""
    pair = layer.channels * -(-layer.out_channels // BLOCK) * BLOCK
    direct = _cycles(TAPS * TAPS * layer.rows * layer.columns * pair, 4 * TAPS * TAPS * pair, target)
    cycles = {0: direct}
    for transform in (F2, F4):
        count = -(-layer.rows // transform.out) * -(-layer.columns // transform.out)
        weights = _weight_bytes(transform, layer.channels, layer.out_channels)
        products = _cycles(transform.size**2 * count * pair, weights, target)
        moved = transform.size**2 * count * (layer.channels + layer.out_channels) / BLOCK
        cycles[transform.out] = products + TRANSFORM * moved
    return cycles


def _cycles(multiplications: int, weights: int, target: Target) -> float:
    """Of one core, two vectors of multiply-adds each, while ``weights`` bytes come from memory if no cache has them."""
    return max(multiplications / (2 * target.vector_lanes), weights / BYTES_PER_CYCLE if weights > target.l2 else 0)


def _tiles(size: Any, transform: Transform) -> int | None:
    """Tiles along an axis, None where its size is symbolic."""
    known = as_int(size)
    return None if known is None else -(-known // transform.out)


def _weight_bytes(transform: Transform, channels: int, out_channels: int) -> int:
    return 4 * transform.size**2 * channels * -(-out_channels // BLOCK) * BLOCK


def pack(weight: np.ndarray, transform: Transform) -> np.ndarray:
    """[O, C, 3, 3] → transformed [in, in, ceil(O / 16), C, 16], in float64 before rounding to float32."""
    out, channels, _, _ = weight.shape
    blocks = -(-out // BLOCK)
    padded = np.zeros((blocks * BLOCK, channels, TAPS, TAPS))
    padded[:out] = weight
    transformed = np.einsum("ei,fj,ocij->efoc", transform.weight, transform.weight, padded, optimize=True)
    split = transformed.reshape(transform.size, transform.size, blocks, BLOCK, channels).transpose(0, 1, 2, 4, 3)
    return np.ascontiguousarray(split, dtype=np.float32)


def plan_for(
    transform: Transform, channels: int, out_channels: int, rows: Any, columns: Any, target: Target
) -> Plan:
    """How tiles are grouped for one transform.

    A block's transformed input and its products should stay in the second-level cache; but weights are read once a
    block, and of few blocks where they come from memory.
    """
    blocks = -(-out_channels // BLOCK)
    down, across = _tiles(rows, transform), _tiles(columns, transform)
    if across is None:
        return Plan(transform, 1, min(best_tile(None, blocks, target)[0], 6))

    def cost(tile_rows: int) -> float:
        count, groups = tile_rows * across, -(-(down or 1) // tile_rows)
        tile = _tile_height(count, blocks, channels, target)
        products = transform.size**2 * -(-count // tile) * tile * groups * channels * blocks * BLOCK
        compute = products / (2 * target.vector_lanes)
        held = 4 * transform.size**2 * (channels + out_channels) * count
        spilled = 2 * held / CACHED_BYTES_PER_CYCLE if held > target.l2 * 3 // 4 else 0
        weights = _reading(_weight_bytes(transform, channels, out_channels), target)
        return compute + groups * HIDDEN * (weights + spilled)

    highest = max(1, min(down or max(1, 14 // across), MAX_TILES // across))
    tile_rows = min(range(1, highest + 1), key=cost)
    return Plan(transform, tile_rows, _tile_height(tile_rows * across, blocks, channels, target))


def _reading(weights: int, target: Target) -> float:
    """Cycles to read ``weights`` bytes once, from wherever so many stay between two uses."""
    if weights <= target.l2 // 2:
        return 0.0
    return weights / (CACHED_BYTES_PER_CYCLE if weights <= 4 * target.l2 else BYTES_PER_CYCLE)


def _tile_height(tiles: int, blocks: int, channels: int, target: Target) -> int:
    """Rows of the register tile."""
    return best_tile(tiles, blocks, target, channels)[0]
