"""Sizes reach kernels in one order, whatever order TVM's sets had."""

from __future__ import annotations

import numpy as np
from pass_graphs import Plain, graph
from size_graphs import weighted
from tvm import relax, transform

from onnxkiln.passes.order_scalars import order_scalars
from onnxkiln.passes.to_dataflow import to_dataflow
from onnxkiln.passes.unify_scalars import unify_scalars

O = relax.op  # noqa: E741
T = relax.transform


def scalars(mod) -> list[list[str]]:
    calls = [b.value for b in mod["main"].body.blocks[0].bindings if isinstance(b.value.ty, relax.TensorType)]
    return [[str(argument) for argument in call.args[1].fields] for call in calls]


def test_scalars_come_in_the_order_in_which_the_kernel_uses_them() -> None:
    before = weighted([2, 0, 1], [1, 2, 0], [0, 1, 2])
    after, changed = order_scalars(before)
    assert scalars(before) == [["k", "n", "m"], ["m", "k", "n"], ["n", "m", "k"]] and changed >= 2
    assert scalars(after)[0] == scalars(after)[1] == scalars(after)[2]
    x = np.zeros((2, 3, 5), "float32")
    for mod in (before, after):
        for result in Plain(mod)(x):
            np.testing.assert_array_equal(result, [2 + 30 + 500] * 2)
    assert order_scalars(after) == (after, 0)


def test_fused_functions_keep_their_values() -> None:
    mod = graph(lambda x: O.exp(O.negative(x)), ("n", 3))
    mod, _ = to_dataflow(T.LegalizeOps()(mod))
    mod, _ = unify_scalars(transform.Sequential([T.AnnotateTIROpPattern(), T.FuseOps()])(mod))
    assert order_scalars(mod) == (mod, 0)
