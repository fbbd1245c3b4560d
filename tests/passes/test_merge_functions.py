"""Kernels that differ in the order of their sizes alone become one, and names don't tell how they came about."""

from __future__ import annotations

import numpy as np
from kernel_cases import Kernels
from pass_graphs import Plain, const, data, graph, operators
from size_graphs import weighted
from tvm import relax, tirx

from onnxkiln import targets
from onnxkiln.passes.merge_functions import merge_functions
from onnxkiln.passes.order_scalars import order_scalars
from onnxkiln.passes.pipeline import Pipeline

O = relax.op  # noqa: E741
TARGET = targets.parse("cpu:x86-64-v3")[0]


def kernels(mod) -> list[str]:
    return sorted(gv.name_hint for gv, function in mod.functions.items() if isinstance(function, tirx.PrimFunc))


def test_kernels_that_differ_in_the_order_of_sizes_become_one() -> None:
    before = weighted([2, 0, 1], [1, 2, 0], [0, 1, 2])
    after, merged = merge_functions(order_scalars(before)[0])
    assert len(kernels(before)) == 3 and kernels(after) == ["weigh"] and merged == 2
    relax.analysis.well_formed(after)
    for result in Plain(after)(np.zeros((2, 3, 5), "float32")):
        np.testing.assert_array_equal(result, [2 + 30 + 500] * 2)


def test_names_follow_the_calls() -> None:
    mods = [weighted([0, 1, 2], [0, 1, 2]), weighted([2, 1, 0], [0, 2, 1])]
    texts = {merge_functions(order_scalars(mod)[0])[0].script() for mod in mods}
    assert len(texts) == 1


def test_kernels_without_open_dims_are_left_alone() -> None:
    mod = Pipeline("O1").optimize(graph(lambda x: O.exp(O.matmul(x, const(data(6, 6)))), (3, 6)), TARGET)
    assert merge_functions(mod) == (mod, 0)


def test_different_kernels_stay() -> None:
    mod = weighted([0, 1, 2])
    other = mod["weigh"]
    mod["unrelated"] = other.with_attr("global_symbol", "unrelated")
    after, merged = merge_functions(mod)
    assert merged == 0 and kernels(after) == ["unrelated", "weigh"]


def test_the_whole_pipeline_keeps_values_and_names_in_call_order() -> None:
    def network(x: relax.Expr) -> list[relax.Expr]:
        n, m = x.ty.shape.values
        return [O.exp(O.reshape(x, [m, n])), O.negative(O.broadcast_to(O.sum(x, [1], keepdims=True), [n, m]))]

    mod = graph(network, ("n", "m"))
    optimized = Pipeline("O2").optimize(mod, TARGET)
    relax.analysis.well_formed(optimized)
    assert [op for op in operators(optimized) if op.startswith("call_tir")]
    x = data(3, 5)
    for got, want in zip(Kernels(mod)(x), Plain(mod)(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
