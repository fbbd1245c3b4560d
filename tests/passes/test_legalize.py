"""Operators become functions of the module; views stay views; row-wise operators take our forms."""

from __future__ import annotations

import pytest
from pass_graphs import assert_same, data, graph, operators
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.legalize import legalize
from onnxkiln.schedules.blocks import TEMPLATE_KEY

O = relax.op  # noqa: E741
TARGET = targets.parse("cpu:x86-64-v3")[0]


def test_operators_become_calls() -> None:
    mod = graph(lambda x, y: O.concat([O.add(x, y), O.exp(x)], 0), ("n", 3), ("n", 3))
    after = legalize(mod, TARGET)
    found = [op for op in operators(after) if op]
    assert [op.split()[0] for op in found] == ["call_tir"] * 3
    assert_same(mod, after, [data(2, 3), data(2, 3)])


@pytest.mark.parametrize(
    "view",
    [
        lambda x: O.reshape(x, (6, 2)),
        lambda x: O.expand_dims(x, [0, 2]),
        lambda x: O.squeeze(x, [1]),
        lambda x: O.flatten(x),
    ],
    ids=["reshape", "expand_dims", "squeeze", "flatten"],
)
def test_views_run_no_kernel(view) -> None:
    mod = graph(view, (4, 1, 3))
    after = legalize(mod, TARGET)
    assert operators(after) == ["reshape"]
    assert_same(mod, after, [data(4, 1, 3)])


def test_row_operators_carry_their_template() -> None:
    mod = graph(lambda x: [O.nn.softmax(x, -1), O.sum(x, [1])], ("n", 19))
    after = legalize(mod, TARGET)
    kernels = [f for f in after.functions.values() if not isinstance(f, relax.Function)]
    assert len(kernels) == 2 and all(TEMPLATE_KEY in function.script() for function in kernels)
    assert_same(mod, after, [data(3, 19)])


def test_kernels_are_left_alone() -> None:
    once = legalize(graph(lambda x: O.exp(x), (2, 3)), TARGET)
    twice = legalize(once, TARGET)
    assert operators(once) == operators(twice) and len(once.functions) == len(twice.functions)
