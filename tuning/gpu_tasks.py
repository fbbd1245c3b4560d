"""What there is to tune for GPUs: kernels whose rule has tiles to choose among."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from ..schedules.blocks import all_blocks, extent, is_spatial
from ..schedules.choices import Choices
from ..schedules.gpu.dispatch import RULES, TILE_PARAMETER, default_tile
from ..schedules.template import reason_to_leave
from ..targets import Target
from .tasks import Task
from .workload import workload_of


def gpu_tasks_of(mod: tvm.IRModule, target: Target) -> list[Task]:
    """The tasks of an optimized, unscheduled module, in the module's order; what they compute is known by its text.

    They have no arguments: nothing here measures them.
    """
    calls = _calls(mod)
    tasks: dict[str, Task] = {}
    for gv, function in mod.functions.items():
        if not isinstance(function, tirx.PrimFunc) or reason_to_leave(function):
            continue
        found = _choices(function, target)
        if found is None:
            continue
        name, workload = gv.name_hint, workload_of(function)
        known = tasks.get(workload)
        if known is not None:
            tasks[workload] = replace(
                known, functions=(*known.functions, name), calls=known.calls + calls.get(name, 0)
            )
            continue
        sizes = _sizes(function)
        tasks[workload] = Task(
            workload=workload,
            text=f"{found.template} {'x'.join('?' if size is None else str(size) for size in sizes)}",
            algorithm="direct",
            choices=found,
            functions=(name,),
            calls=calls.get(name, 0),
            function=function,
            arguments=(),
            scales=(),
            flops=0,
            nbytes=0,
            features={},
        )
    return list(tasks.values())


def _choices(function: tirx.PrimFunc, target: Target) -> Choices | None:
    """Those of the first rule with tiles that takes the function."""
    named = function.with_attr("global_symbol", "main")
    for name, rule in RULES.items():
        default = default_tile(rule, named, target)
        if default is not None:
            first = {TILE_PARAMETER: default}
            rest = [{TILE_PARAMETER: tile} for tile in range(rule.tiles) if tile != default]
            return Choices(name, rule.version, first, (first, *rest))
    return None


def _sizes(function: tirx.PrimFunc) -> list[int | None]:
    """Of the anchor's loops; None where open."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    try:
        anchor = next(block for block in all_blocks(schedule) if not is_spatial(schedule, block))
        return [extent(schedule, loop) for loop in schedule.get_loops(anchor)]
    except (StopIteration, ScheduleError):
        return []


def _calls(mod: tvm.IRModule) -> dict[str, int]:
    counts: dict[str, int] = {}
    for function in mod.functions.values():
        if isinstance(function, relax.Function):
            for block in function.body.blocks:
                for binding in block.bindings:
                    value: Any = getattr(binding, "value", None)
                    if getattr(getattr(value, "op", None), "name", "") == "relax.call_tir":
                        name = value.args[0].name_hint
                        counts[name] = counts.get(name, 0) + 1
    return counts
