"""From a fused function to kernels: the first rule that binds all of it serves."""

from __future__ import annotations

import re
from collections.abc import Callable

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl

from ...targets import Target
from ..template import Scheduled, reason_to_leave
from .bound import is_bound
from .elementwise import schedule_elementwise
from .matmul import schedule_matmul
from .opaque import bind_opaque
from .rows import reduces_rows

Rule = Callable[[tirx.PrimFunc, tvm.target.Target], tirx.PrimFunc | None]


def _dlight(rule: dl.ScheduleRule) -> Rule:
    def run(function: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        schedule = rule.apply(function, target, False)
        return schedule.mod["main"] if isinstance(schedule, Schedule) else None

    return run


def _rows(function: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
    return _dlight(dl.gpu.GeneralReduction())(function, target) if reduces_rows(function) else None


RULES: tuple[tuple[str, Rule], ...] = (
    ("gpu_matmul", schedule_matmul),
    ("gpu_gemv", _dlight(dl.gpu.GEMV())),
    ("gpu_reduction", _dlight(dl.gpu.Reduction())),
    ("gpu_rows", _rows),
)
"""Rules by the name that the manifest shows, most of them dlight's. Each takes what it knows and leaves the rest."""

_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError)
"""What dlight and TVM raise for functions that they don't expect; ScheduleError is a RuntimeError."""


def schedule_for_gpu(
    function: tirx.PrimFunc, target: Target, check: Callable[[tirx.PrimFunc], None] = lambda _function: None
) -> Scheduled:
    """Bind a function to threads, by a rule made for it or else element by element.

    ``check`` raises for what a rule made of it that can't be compiled: then the next one serves.
    """
    tvm_target = tvm.target.Target(target.tvm_json())
    function = function.with_attr("global_symbol", "main") if "global_symbol" not in function.attrs else function
    reason = reason_to_leave(function)
    if reason:
        return Scheduled(bind_opaque(function), None, {}, False, reason)
    reasons = []
    for name, rule in RULES:
        try:
            with tvm_target:
                scheduled = rule(function, tvm_target)
            if scheduled is not None and is_bound(scheduled):
                check(scheduled)
                return Scheduled(scheduled, name, {}, False)
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


def _last_line(error: Exception) -> str:
    """What failed, without the addresses that TVM prints: the manifest is to be the same each time."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return re.sub(r"0x[0-9a-f]+", "...", line)
