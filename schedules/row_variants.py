"""Kernels for few rows beside the one for many, where the number of rows is known only when the model runs.

A register tile of six rows computes six where there is one. So a function of open rows holds its kernel several times,
with a tile of 1, 4 and so on, and takes the one that computes least in vain: one row streams the weights once, eight
blocks side by side, and 12 rows are two tiles of 6 instead of two of 8. A tile of few rows reads more weights for each
product, so each tile's speed counts too: 128 rows are 16 tiles of 8, not 32 of 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs
from tvm.sym import Analyzer

from ..targets import Target
from .blocks import anchor_of, as_int, extent, split_loops
from .retile import retile, tile_of, tiled_length
from .tiles import BLOCK, best_width, tile_speed

FEW = {"matmul": (1, 4, 6), "conv2d": (1, 4)}
"""Tiles besides the default one, by template."""

MOST_BLOCKS = 8


def joined(
    function: tirx.PrimFunc,
    scheduled: tirx.PrimFunc,
    target: Target,
    schedule_one: Callable[[tirx.PrimFunc], tirx.PrimFunc | None],
) -> tirx.PrimFunc:
    """``scheduled``, which is ``function`` with its own tile, with a choice of those for few rows in front.

    ``schedule_one`` gives None for a function that takes no schedule.
    """
    found = _open_rows(function, target)
    if found is None:
        return scheduled
    rows, default, costs = found
    body = scheduled.body
    for tile in sorted((tile for tile in costs if tile != default), reverse=True):
        alone = tile == 1 and isinstance(rows, tirx.Var)
        other = schedule_one(_with_one_row(function, rows) if alone else retile(function, tile))
        if other is not None:
            other = renew_defs(other)  # a buffer that two branches share would have its place around their choice
            condition = _is_least(_renamed(rows, function, scheduled), tile, costs)
            body = tirx.IfThenElse(condition, _renamed(other.body, other, scheduled), body)
    return tirx.PrimFunc(scheduled.params, body, scheduled.ret_type, attrs=scheduled.attrs)


def _open_rows(function: tirx.PrimFunc, target: Target) -> tuple[Any, int, dict[int, int]] | None:
    """(the number of rows, their tile, what a tile costs by its rows); None where rows are fixed, or many always."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = anchor_of(schedule)
    tile = None if found is None or found[1] not in FEW else tile_of(schedule, found[0])
    if found is None or tile is None:
        return None
    rows = tiled_length(schedule, found[0])
    is_picture = found[1] == "conv2d" and as_int(schedule.get(found[0]).writes[0].source.shape[1]) != 1
    if as_int(rows) is not None or is_picture:
        return None
    spatial, reduction = split_loops(schedule, found[0])
    blocks = (extent(schedule, spatial[-1]) or BLOCK) // BLOCK
    depth = math.prod(extent(schedule, loop) or 1 for loop in reduction)
    return rows, tile, {tile: _cost(tile, blocks, depth, target) for tile in {*FEW[found[1]], tile}}


def _cost(tile: int, blocks: int, depth: int, target: Target) -> int:
    """What one tile's rows take, in any unit."""
    widths = [width for width in range(1, MOST_BLOCKS + 1) if blocks % width == 0]
    return round(100 * tile / tile_speed(tile, best_width(tile, widths, target, depth), target, depth))


def _with_one_row(function: tirx.PrimFunc, rows: Any) -> tirx.PrimFunc:
    """The function for a single row: with sizes that are known its loops become plain ones."""
    one = tirx.const(1, rows.ty)
    entries = [(tvm.ir.Var, lambda var: one if var.same_as(rows) else var), (tirx.Sub, Analyzer().simplify)]
    return retile(tvm_ffi.structural_map(function, entries), 1)


def _is_least(rows: Any, tile: int, costs: Mapping[int, int]) -> Any:
    """Whether tiles of ``tile`` cost least, the smallest of equal ones. A tile of one row is for one row alone."""
    if tile == 1:
        return tirx.EQ(rows, tirx.const(1, rows.ty))

    def total(size: int) -> Any:
        return tirx.floordiv(rows + (size - 1), size) * costs[size]

    condition = tirx.const(True, "bool")
    for other in costs:
        if other not in (1, tile):
            less = total(tile) < total(other) if other < tile else total(tile) <= total(other)
            condition = tirx.And(condition, less)
    return condition


def _renamed(node: Any, function: tirx.PrimFunc, other: tirx.PrimFunc) -> Any:
    """A part of ``function`` on the parameters of ``other``, which has the same in the same order."""
    names: dict[Any, Any] = {}
    for old, new in zip(function.params, other.params, strict=True):
        names[old] = new
        for before, after in zip(getattr(old, "shape", ()), getattr(new, "shape", ()), strict=True):
            if isinstance(before, tvm.ir.Var):
                names[before] = after
    return tvm_ffi.structural_map(node, (tvm.ir.Var, lambda var: names.get(var, var)), order="pre")
