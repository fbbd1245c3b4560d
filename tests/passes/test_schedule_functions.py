"""Every function of a fused module gets its schedule and a report."""

from __future__ import annotations

from pass_graphs import const, data, emit, graph, operators
from tvm import relax, tirx

from onnxkiln import targets
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.schedule_functions import schedule_functions

O = relax.op  # noqa: E741
TARGET = targets.parse("cpu:x86-64-v3")[0]


def optimized():
    weight = const(data(6, 6))

    def network(x: relax.Expr) -> list[relax.Expr]:
        y = emit(O.exp(O.matmul(O.exp(O.matmul(x, weight)), weight)))
        return [O.permute_dims(y), O.sum(y, [0])]

    return Pipeline("O1").optimize(graph(network, ("n", 6)), TARGET)


def test_reports() -> None:
    mod = optimized()
    calls: list[tuple[int, int]] = []
    _, reports = schedule_functions(mod, TARGET, lambda done, total: calls.append((done, total)))
    kernels = [gv.name_hint for gv, function in mod.functions.items() if isinstance(function, tirx.PrimFunc)]
    assert sorted(report.name for report in reports) == sorted(kernels)
    assert calls == [(index + 1, len(reports)) for index in range(len(reports))]
    matmul = next(report for report in reports if report.template == "matmul")
    assert matmul.calls == 2 and matmul.parameters and not matmul.reason
    others = [report for report in reports if report.template is None]
    assert others and all(report.reason == "no template for this operator" for report in others)
    assert sum(report.calls for report in reports) == sum(op.startswith("call_tir") for op in operators(mod))


def test_the_graph_is_left_alone() -> None:
    mod = optimized()
    before = mod.script(show_meta=True)
    after, _ = schedule_functions(mod, TARGET)
    assert mod.script(show_meta=True) == before
    assert operators(after) == operators(mod)
    for gv, function in after.functions.items():
        if isinstance(function, tirx.PrimFunc):
            assert function.script() != mod[gv.name_hint].script()
