"""Kernels for few rows beside the one for many, where the number of rows is known only when the model runs.

A register tile of six rows computes six where there is one. So a function of open rows holds its kernel several times,
with a tile of 1, 4 and so on, and takes the one that computes least in vain: one row streams the weights once, eight
blocks side by side, and 13 rows are two tiles of 7 instead of three of 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs
from tvm.sym import Analyzer

from .blocks import anchor_of, as_int
from .retile import retile, tile_of, tiled_length

FEW = {"matmul": (1, 4, 7), "conv2d": (1, 4)}
"""Tiles besides the default one, by template."""


def joined(
    function: tirx.PrimFunc, scheduled: tirx.PrimFunc, schedule_one: Callable[[tirx.PrimFunc], tirx.PrimFunc | None]
) -> tirx.PrimFunc:
    """``scheduled``, which is ``function`` with its own tile, with a choice of those for few rows in front.

    ``schedule_one`` gives None for a function that takes no schedule.
    """
    found = _open_rows(function)
    if found is None:
        return scheduled
    rows, default, tiles = found
    body = scheduled.body
    for tile in sorted(tiles, reverse=True):
        alone = tile == 1 and isinstance(rows, tirx.Var)
        other = schedule_one(_with_one_row(function, rows) if alone else retile(function, tile))
        if other is not None:
            other = renew_defs(other)  # a buffer that two branches share would have its place around their choice
            condition = _is_least(_renamed(rows, function, scheduled), tile, [default, *tiles])
            body = tirx.IfThenElse(condition, _renamed(other.body, other, scheduled), body)
    return tirx.PrimFunc(scheduled.params, body, scheduled.ret_type, attrs=scheduled.attrs)


def _open_rows(function: tirx.PrimFunc) -> tuple[Any, int, list[int]] | None:
    """(the number of rows, their tile, further tiles that pay); None where rows are fixed, or many in every case."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = anchor_of(schedule)
    tile = None if found is None or found[1] not in FEW else tile_of(schedule, found[0])
    if found is None or tile is None:
        return None
    rows = tiled_length(schedule, found[0])
    is_picture = found[1] == "conv2d" and as_int(schedule.get(found[0]).writes[0].source.shape[1]) != 1
    if as_int(rows) is not None or is_picture:
        return None
    return rows, tile, [other for other in FEW[found[1]] if other != tile]


def _with_one_row(function: tirx.PrimFunc, rows: Any) -> tirx.PrimFunc:
    """The function for a single row: with sizes that are known its loops become plain ones."""
    one = tirx.const(1, rows.ty)
    entries = [(tvm.ir.Var, lambda var: one if var.same_as(rows) else var), (tirx.Sub, Analyzer().simplify)]
    return retile(tvm_ffi.structural_map(function, entries), 1)


def _is_least(rows: Any, tile: int, tiles: Sequence[int]) -> Any:
    """Whether tiles of ``tile`` compute fewer rows than any other. A tile of one row is for one row alone."""
    if tile == 1:
        return tirx.EQ(rows, tirx.const(1, rows.ty))

    def computed(size: int) -> Any:
        return tirx.floordiv(rows + (size - 1), size) * size

    condition = tirx.const(True, "bool")
    for other in tiles:
        if other not in (1, tile):
            condition = tirx.And(condition, computed(tile) < computed(other))
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
