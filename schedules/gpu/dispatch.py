"""From a fused function to kernels: the first rule that binds all of it serves."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl
from tvm.s_tir.schedule import ScheduleError

from ...targets import Target
from ..template import Scheduled, reason_to_leave
from .bound import is_bound
from .elementwise import schedule_elementwise
from .opaque import bind_opaque

Rule = Callable[[tirx.PrimFunc, tvm.target.Target], tirx.PrimFunc | None]


def _dlight(rule: dl.ScheduleRule) -> Rule:
    def run(function: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        schedule = rule.apply(function, target, False)
        return schedule.mod["main"] if isinstance(schedule, Schedule) else None

    return run


RULES: tuple[tuple[str, Rule], ...] = (
    ("gpu_matmul", _dlight(dl.gpu.Matmul())),
    ("gpu_gemv", _dlight(dl.gpu.GEMV())),
    ("gpu_reduction", _dlight(dl.gpu.Reduction())),
    ("gpu_rows", _dlight(dl.gpu.GeneralReduction())),
)
"""dlight's rules by the name that the manifest shows. Each takes what it knows and leaves the rest."""

_FAILURES = (ScheduleError, tvm.error.InternalError, ValueError, TypeError, KeyError, IndexError, AssertionError)


def schedule_for_gpu(function: tirx.PrimFunc, target: Target) -> Scheduled:
    """Bind a function to threads, by a rule made for it or else element by element."""
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
        except _FAILURES as error:
            reasons.append(f"{name}: {str(error).strip().splitlines()[-1]}")
            continue
        if scheduled is not None and is_bound(scheduled):
            return Scheduled(scheduled, name, {}, False)
    try:
        scheduled = schedule_elementwise(function)
        if is_bound(scheduled):
            return Scheduled(scheduled, None, {}, False, "; ".join(reasons) or "no rule for this operator")
    except _FAILURES as error:
        reasons.append(f"elementwise: {str(error).strip().splitlines()[-1]}")
    return Scheduled(bind_opaque(function), None, {}, False, "; ".join(reasons))
