"""Sizes reach kernels in one order, whatever order TVM's sets had."""

from __future__ import annotations

import numpy as np
from pass_graphs import Plain, graph
from size_graphs import weighted
from tvm import relax, tirx, transform

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


def test_functions_that_fusion_did_not_make_are_left_alone() -> None:
    """They may take a shape that has no names yet, or be called with a shape that comes at run time."""
    n, m = (tirx.Var(name, "int64") for name in "nm")
    builder = relax.BlockBuilder()
    callees = []
    for own in (relax.ShapeType(ndim=2), relax.ShapeType([m, n])):
        x, shape = relax.Var("x", relax.TensorType([n, m], "float32")), relax.Var("shape", own)
        with builder.function("callee", [x, shape]):
            first, second = tirx.Var("first", "int64"), tirx.Var("second", "int64")
            builder.match_cast(shape, relax.ShapeType([first, second]))
            builder.emit_func_output(builder.emit(O.full([first, second], relax.const(1, "float32"))))
        callees.append(builder.finalize()["callee"].without_attr("global_symbol"))
        builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([n, m], "float32"))
    with builder.function("main", [x]):
        names = [builder.add_func(callee, "callee") for callee in callees]
        builder.emit_func_output(
            relax.Tuple([builder.emit(relax.Call(name, [x, relax.ShapeExpr([m, n])])) for name in names])
        )
    mod = builder.finalize()
    assert len(mod.functions) == 3
    assert order_scalars(mod) == (mod, 0)
