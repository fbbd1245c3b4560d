"""Another register tile for a fused function, after its expression was written for one.

Kernels compute whole tiles of rows or pixels: the expression rounds their number up to the tile. What it is rounded
to can be changed in the function itself, so that a tile is a schedule's parameter like any other: the data stay the
same, and so does every result that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.s_tir.stmt import SBlock
from tvm.sym import Analyzer

from .blocks import anchor_of, as_int, depends_on

TILE = "tile"
"""The parameter that says the tile."""

TILE_KEYS = ("rows", "pixels")
"""Annotations of an anchor that hold its tile; the axis is the last but one of what it writes."""

AXIS = -2


@dataclass(frozen=True)
class _Resized:
    """An axis to change: the variable of its loop, that of the block, the buffer and how long the axis gets."""

    loop_var: Any
    block_var: Any
    buffer: Any
    extent: Any


def tile_of(schedule: Schedule, anchor: SBlockRV) -> int | None:
    """The tile that the anchor's expression was written for; None where it has none that could be changed."""
    annotations = schedule.get(anchor).annotations
    key = next((key for key in TILE_KEYS if key in annotations), None)
    if key is None or len(schedule.get_consumers(anchor)) != 1:
        return None
    # Tiles that several stages share, as Winograd's, stay.
    following = _following(schedule, anchor)
    return None if any(schedule.get(stage).name_hint != "pad" for stage in following) else int(annotations[key])


def tiled_length(schedule: Schedule, anchor: SBlockRV) -> Any:
    """The number of rows or pixels that the tiles cover, a number or an expression; None without a tile to change."""
    if tile_of(schedule, anchor) is None:
        return None
    consumer = schedule.get_consumers(anchor)[0]
    axis = len(schedule.get(consumer).writes[0].source.shape) + AXIS
    return schedule.get(schedule.get_loops(consumer)[axis]).extent


def retile(function: tirx.PrimFunc, tile: int) -> tirx.PrimFunc:
    """The same function with ``tile`` rows or pixels a register tile. Raises ValueError where that can't be."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = anchor_of(schedule)
    old = None if found is None else tile_of(schedule, found[0])
    if found is None or old is None:
        raise ValueError("the function has no tile that could be changed")
    if old == tile:
        return function
    anchor = found[0]
    return _rewrite(function, _resized_axes(schedule, anchor, tile), schedule.get(anchor).name_hint, tile)


def _resized_axes(schedule: Schedule, anchor: SBlockRV, tile: int) -> list[_Resized]:
    simplify = Analyzer().simplify
    block = schedule.get(anchor)
    written = block.writes[0].source
    axis = len(written.shape) + AXIS
    old = written.shape[axis]
    new = simplify(tirx.floordiv(tiled_length(schedule, anchor) + (tile - 1), tile) * tile)
    variable = block.iter_vars[axis].var
    resized = [_Resized(_loop_var(schedule, anchor, axis), variable, written, new)]
    for producer in _following(schedule, anchor):
        padded = schedule.get(producer).writes[0].source
        index = next(load for load in _loads(block.body, padded)).indices[axis]
        stride = simplify(_substitute(index, variable, variable + 1) - index)
        beyond = simplify(padded.shape[axis] - (old - 1) * stride)
        if as_int(stride) is None or as_int(beyond) is None:
            raise ValueError("the padding in front doesn't follow the tile")
        own = schedule.get(producer).iter_vars[axis].var
        extent = simplify((new - 1) * stride + beyond)
        resized.append(_Resized(_loop_var(schedule, producer, axis), own, padded, extent))
    return resized


def _rewrite(function: tirx.PrimFunc, axes: list[_Resized], anchor_name: str, tile: int) -> tirx.PrimFunc:
    buffers = {axis.buffer: _with_extent(axis.buffer, axis.extent) for axis in axes}

    def variable(var: Any) -> Any:
        return buffers.get(var, var)

    def loop(node: tirx.For) -> tirx.For:
        extent = next((axis.extent for axis in axes if node.loop_var.same_as(axis.loop_var)), None)
        if extent is None:
            return node
        return tirx.For(
            node.loop_var, node.min, extent, node.kind, node.body, node.thread_binding, node.annotations, node.step
        )

    def iteration(node: tirx.IterVar) -> tirx.IterVar:
        extent = next((axis.extent for axis in axes if node.var.same_as(axis.block_var)), None)
        if extent is None:
            return node
        return tirx.IterVar(tvm.ir.Range(node.dom.min, extent), node.var, node.iter_type, node.thread_tag)

    def block(node: SBlock) -> SBlock:
        if node.name_hint != anchor_name:
            return node
        annotations = {key: tile if key in TILE_KEYS else value for key, value in node.annotations.items()}
        return SBlock(
            node.iter_vars, node.reads, node.writes, node.name_hint, node.body, node.init, node.alloc_buffers,
            node.match_buffers, annotations,
        )  # fmt: skip

    # Loops and iterations by the variables of the old function: before the map gives them copies.
    entries = [(tirx.For, loop), (tirx.IterVar, iteration), (SBlock, block), (tvm.ir.Var, variable)]
    return tvm_ffi.structural_map(function, entries, order="pre")


def _with_extent(buffer: Any, extent: Any) -> Any:
    shape = [*buffer.shape]
    shape[len(shape) + AXIS] = extent
    return tirx.decl_buffer(shape, buffer.dtype, buffer.name, scope=buffer.scope())


def _loop_var(schedule: Schedule, block: SBlockRV, axis: int) -> Any:
    return schedule.get(schedule.get_loops(block)[axis]).loop_var


def _following(schedule: Schedule, anchor: SBlockRV) -> list[SBlockRV]:
    """The stages before the anchor that are as long as its tiles need: those read at its own place, unclamped."""
    block = schedule.get(anchor)
    axis = len(block.writes[0].source.shape) + AXIS
    variable = block.iter_vars[axis].var
    found = []
    for producer in schedule.get_producers(anchor):
        loads = _loads(block.body, schedule.get(producer).writes[0].source)
        indices = [index for load in loads for index in load.indices]
        if any(depends_on(_without_clamps(index), [variable]) for index in indices):
            found.append(producer)
    return found


def _without_clamps(index: Any) -> Any:
    """The index without what is limited to the rows or pixels that there are."""
    return tvm_ffi.structural_map(index, (tirx.Min, lambda clamp: clamp.b))


def _loads(body: Any, buffer: Any) -> list[Any]:
    found: list[Any] = []

    def visit(load: Any) -> None:
        if load.source.same_as(buffer):
            found.append(load)

    tvm_ffi.structural_walk(body, (tvm.ir.expr.TensorLoad, visit), order="post")
    return found


def _substitute(expr: Any, variable: Any, value: Any) -> Any:
    return tvm_ffi.structural_map(expr, (tvm.ir.Var, lambda var: value if var.same_as(variable) else var))
