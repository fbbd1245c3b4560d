"""Give every function of a fused module its schedule, and say which each one got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprVisitor, visitor

from ..explanation import Explanation
from ..schedules.gpu.dispatch import schedule_for_gpu
from ..schedules.template import Scheduled, schedule_function
from ..targets import Target
from .bindings import relax_functions
from .constants import op_name
from .gpu_pipeline import check_kernel
from .join_in_place import ORIGIN_KEY


@dataclass(frozen=True)
class KernelReport:
    """One function of the library: how it is scheduled, how often ``main`` calls it, and why it is generic if it is."""

    name: str
    template: str | None
    parameters: dict[str, int] = field(default_factory=dict)
    vectorized: bool = False
    calls: int = 1
    reason: str = ""


def explain_kernels(reports: list[KernelReport]) -> list[Explanation]:
    """Why each function has the schedule it has."""
    return [
        Explanation(
            "schedule",
            report.name,
            report.template or "a template",
            report.template is not None,
            report.reason or "its anchor names this template",
        )
        for report in reports
    ]


@visitor
class _CallCounter(PyExprVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def visit_call_(self, call: relax.Call) -> None:
        if op_name(call) in ("relax.call_tir", "relax.call_tir_inplace"):
            self.calls[call.args[0].name_hint] += 1
        for arg in call.args:
            self.visit_expr(arg)


def schedule_functions(
    mod: tvm.IRModule,
    target: Target,
    progress: Callable[[int, int], None] | None = None,
    parameters: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[tvm.IRModule, list[KernelReport]]:
    """Returns the scheduled module and a report per function, in the module's order.

    ``parameters`` are those chosen for functions, by their names; the others get their template's default.
    """
    chosen = parameters or {}
    calls = _calls(mod)
    functions = [(gv, f) for gv, f in mod.functions.items() if isinstance(f, tirx.PrimFunc)]
    scheduled = mod.clone()
    reports = []
    for index, (gv, function) in enumerate(functions):
        result = (
            schedule_for_gpu(
                function, target, lambda scheduled: check_kernel(scheduled, target), chosen.get(gv.name_hint)
            )
            if target.is_gpu
            else schedule_function(function, target, chosen.get(gv.name_hint))
        )
        scheduled.update_func(gv, _finished(function, result))
        reports.append(_report(gv.name_hint, result, calls[gv.name_hint]))
        if progress:
            progress(index + 1, len(functions))
    return scheduled, reports


def finished_reports(mod: tvm.IRModule, reports: list[KernelReport]) -> list[KernelReport]:
    """Those of a finished module: without kernels that went after scheduling, with those that came, and their calls."""
    known, calls = {report.name: report for report in reports}, _calls(mod)
    found = []
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc):
            origin = str(function.attrs[ORIGIN_KEY]) if ORIGIN_KEY in function.attrs else gv.name_hint
            report = known.get(origin) or KernelReport(origin, None, {}, True, reason="a copy")
            found.append(replace(report, name=gv.name_hint, calls=calls[gv.name_hint]))
    return found


def _calls(mod: tvm.IRModule) -> Counter[str]:
    counter = _CallCounter()
    for name in relax_functions(mod):
        counter.visit_expr(mod[name])
    return counter.calls


def _finished(original: tirx.PrimFunc, result: Scheduled) -> tirx.PrimFunc:
    function = result.function.without_attr("global_symbol")
    if original.attrs and "global_symbol" in original.attrs:
        function = function.with_attr("global_symbol", original.attrs["global_symbol"])
    return function


def _report(name: str, result: Scheduled, calls: int) -> KernelReport:
    return KernelReport(name, result.template, dict(result.parameters), result.vectorized, calls, result.reason)
