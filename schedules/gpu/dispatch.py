"""From a fused function to kernels: the first rule that binds all of it serves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl

from ...targets import Target
from ..blocks import TEMPLATE_KEY
from ..template import Scheduled, reason_to_leave
from . import matmul, tensor_cores
from .bound import is_bound
from .elementwise import schedule_elementwise
from .opaque import bind_opaque
from .rows import reduces_rows


@dataclass(frozen=True)
class Rule:
    """``run`` gives the scheduled function, None for what it is not made for; ``tiles``, where there is a choice, says
    how many there are, ``default`` which one serves with no measurement. ``version`` changes when they mean something
    else."""

    run: Callable[[tirx.PrimFunc, Target, int | None], tirx.PrimFunc | None]
    default: Callable[[tirx.PrimFunc, Target], int | None] | None = None
    tiles: int = 0
    version: int = 1


def _dlight(rule: dl.ScheduleRule) -> Rule:
    def run(function: tirx.PrimFunc, target: Target, _tile: int | None) -> tirx.PrimFunc | None:
        schedule = rule.apply(function, tvm.target.Target(target.tvm_json()), False)
        return schedule.mod["main"] if isinstance(schedule, Schedule) else None

    return Rule(run)


def _rows(function: tirx.PrimFunc, target: Target, tile: int | None) -> tirx.PrimFunc | None:
    return _dlight(dl.gpu.GeneralReduction()).run(function, target, tile) if reduces_rows(function) else None


RULES: Mapping[str, Rule] = {
    tensor_cores.NAME: Rule(
        tensor_cores.schedule_tensor_cores, tensor_cores.default, len(tensor_cores.TILES), tensor_cores.VERSION
    ),
    "gpu_matmul": Rule(matmul.schedule_matmul, matmul.default, len(matmul.TILES), matmul.VERSION),
    "gpu_gemv": _dlight(dl.gpu.GEMV()),
    "gpu_reduction": _dlight(dl.gpu.Reduction()),
    "gpu_rows": Rule(_rows),
}
"""In the order in which they are tried, by the name that the manifest shows; most of them are dlight's. Each takes what
it knows and leaves the rest."""

TILE_PARAMETER = "tile"

_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError)
"""What dlight and TVM raise for functions that they don't expect; ScheduleError is a RuntimeError."""


def schedule_for_gpu(
    function: tirx.PrimFunc,
    target: Target,
    check: Callable[[tirx.PrimFunc], None] = lambda _function: None,
    chosen: Mapping[str, int] | None = None,
) -> Scheduled:
    """Bind a function to threads, by a rule made for it or else element by element.

    ``check`` raises for what a rule made of it that can't be compiled: then the next one serves. ``chosen`` are
    parameters from a measurement, for the first rule that takes the function; where they fail its default serves.
    """
    tvm_target = tvm.target.Target(target.tvm_json())
    function = function.with_attr("global_symbol", "main") if "global_symbol" not in function.attrs else function
    if TEMPLATE_KEY in function.attrs:  # written for GPUs, bound already
        return Scheduled(function, str(function.attrs[TEMPLATE_KEY]), {}, False)
    reason = reason_to_leave(function)
    if reason:
        return Scheduled(bind_opaque(function), None, {}, False, reason)
    reasons = []
    for name, rule in RULES.items():
        for parameters in _candidates(rule, function, target, chosen):
            try:
                with tvm_target:
                    scheduled = rule.run(function, target, parameters.get(TILE_PARAMETER))
                if scheduled is not None and is_bound(scheduled):
                    check(scheduled)
                    return Scheduled(scheduled, name, parameters, False)
            except _FAILURES as error:
                reasons.append(f"{name}: {_last_line(error)}")
    try:
        scheduled = schedule_elementwise(function)
        if is_bound(scheduled):
            check(scheduled)
            return Scheduled(scheduled, None, {}, False, "; ".join(reasons) or "no rule for this operator")
    except _FAILURES as error:
        reasons.append(f"elementwise: {_last_line(error)}")
    return Scheduled(bind_opaque(function), None, {}, False, "; ".join(reasons))


def _candidates(
    rule: Rule, function: tirx.PrimFunc, target: Target, chosen: Mapping[str, int] | None
) -> Iterator[Mapping[str, int]]:
    """Parameters to try a rule with, the best first; none where it doesn't take the function."""
    if rule.default is None:
        yield {}
        return
    default = default_tile(rule, function, target)
    if default is None:
        return
    if chosen and 0 <= chosen.get(TILE_PARAMETER, -1) < rule.tiles:
        yield dict(chosen)
    yield {TILE_PARAMETER: default}


def default_tile(rule: Rule, function: tirx.PrimFunc, target: Target) -> int | None:
    """The tile that serves with no measurement; None where the rule doesn't take the function or has no tiles."""
    try:
        return rule.default(function, target) if rule.default else None
    except _FAILURES:
        return None


def _last_line(error: Exception) -> str:
    """What failed, without the addresses that TVM prints: the manifest is to be the same each time."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return re.sub(r"0x[0-9a-f]+", "...", line)
