"""What a tuner may choose for one fused function: its template, the parameters, and which of them make sense."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..targets import Target
from .blocks import anchor_of, as_int
from .retile import TILE, TILE_KEYS, tile_of, tiled_length
from .template import Parameters, Template, reason_to_leave, templates
from .tiles import accumulators, registers_per_block

MOST_TILE = 16
"""Rows or pixels of a register tile; more never were faster, for each needs a broadcast of its own."""

SPARE_REGISTERS = 4
"""Accumulators above ``accumulators(target)`` that a candidate may still ask for."""


@dataclass(frozen=True)
class Choices:
    """``candidates`` holds ``default``, each once, in a fixed order; one alone means there is nothing to choose."""

    template: str
    version: int
    default: Parameters
    candidates: tuple[Parameters, ...]


def choices_of(function: tirx.PrimFunc, target: Target) -> Choices | None:
    """None for functions that no template matches, or whose schedule is fixed."""
    if reason_to_leave(function):
        return None
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = anchor_of(schedule)
    if found is None:
        return None
    anchor, name = found
    template = templates()[name]
    default = dict(template.default(schedule, anchor, target))
    tile = tile_of(schedule, anchor)
    if tile is not None:
        default = {TILE: tile, **default}
    candidates = [default, *(c for c in _combinations(template, schedule, anchor, target, tile) if c != default)]
    return Choices(name, template.version, default, tuple(candidates))


def _combinations(
    template: Template, schedule: Schedule, anchor: SBlockRV, target: Target, tile: int | None
) -> list[dict[str, int]]:
    space = {name: list(values) for name, values in template.space(schedule, anchor, target).items()}
    if tile is not None:
        space[TILE] = _tiles(schedule, anchor, tile)
    names = sorted(space)
    combined = [dict(zip(names, values)) for values in itertools.product(*(space[name] for name in names))]
    annotations = schedule.get(anchor).annotations
    fixed = next((int(annotations[key]) for key in TILE_KEYS if key in annotations), 1)
    return [parameters for parameters in combined if _fits({TILE: fixed, **parameters}, target)]


def _tiles(schedule: Schedule, anchor: SBlockRV, tile: int) -> list[int]:
    """Tiles up to the length of the axis, those left out that compute far more in vain than a smaller one."""
    length = as_int(tiled_length(schedule, anchor))
    if length is None:
        return sorted({*range(1, 9), tile})
    useful = [t for t in range(1, min(length, MOST_TILE) + 1) if -(-length // t) * t <= 1.2 * length]
    return sorted({*useful, tile})


def _fits(parameters: Parameters, target: Target) -> bool:
    """Whether the sums of a register tile fit into registers: what spills is never the fastest."""
    blocks = parameters.get("blocks", parameters.get("vectors", 1))
    used = parameters[TILE] * blocks * registers_per_block(target)
    return used <= accumulators(target) + SPARE_REGISTERS
