"""Recurrent weights in the order in which a step reads them: tiles of columns, each of them row after row.

A tile's sums stay in registers while its rows come past once, in a single stream. In rows of all columns they would
come from as many places as there are rows, and the sums would have to be loaded and stored over and over.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tvm import relax

from .context import Context
from .ops.slice import Cut, take_cuts
from .values import Value

LANES = 16
"""Neighbouring elements that are handled at once."""

WIDEST = 112
"""Columns of a tile at most: 7 registers of AVX-512, 14 of AVX2's 16."""


def products_of(gates: int, hidden: int) -> list[tuple[int, int]]:
    """First column and number of columns of each product of a step; GRU's hidden gate waits for the reset gate."""
    return [(0, 2 * hidden), (2 * hidden, hidden)] if gates == 3 else [(0, gates * hidden)]


def tiles_of(count: int) -> list[int]:
    """Widths that ``count`` columns are divided into: few, and equal ones in whole vectors but for the last."""
    pieces = -(-count // WIDEST)
    width = -(-count // (pieces * LANES)) * LANES
    full, rest = divmod(count, width)
    return [width] * full + [rest] * bool(rest)


def packed(ctx: Context, weight: Value, gates: int, hidden: int) -> Value:
    """[hidden, gates * hidden] to [hidden * gates * hidden] in tiles."""
    tiles = list(_tiles(gates, hidden))
    if isinstance(weight, np.ndarray):
        return np.concatenate([weight[:, first : first + width].ravel() for first, width in tiles])
    cut = [take_cuts(ctx, weight, {1: Cut(first, width, 1)}) for first, width in tiles]
    return ctx.emit(relax.op.concat([relax.op.reshape(ctx.tensor(part), [-1]) for part in cut], 0))


def _tiles(gates: int, hidden: int) -> Iterator[tuple[int, int]]:
    for first, count in products_of(gates, hidden):
        for width in tiles_of(count):
            yield first, width
            first += width
