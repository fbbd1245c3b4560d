"""Sizes reach kernels in one order, whatever order TVM's sets had."""

from __future__ import annotations

import numpy as np
from pass_graphs import Plain, graph
from tvm import relax, te, tirx, transform

from onnxkiln.passes.order_scalars import order_scalars
from onnxkiln.passes.to_dataflow import to_dataflow
from onnxkiln.passes.unify_scalars import unify_scalars

O = relax.op  # noqa: E741
T = relax.transform


def weighted(order: list[int]):
    """A graph over x: [n, m, k] whose kernel takes the three sizes as scalars in the given order."""
    sizes = [tirx.Var(name, "int64") for name in "nmk"]
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(sizes, "float32"))
    params = [tirx.Var(f"s{i}", "int64") for i in order]
    out = te.compute((4,), lambda i: (i * 0 + params[0] + params[1] * 10 + params[2] * 100).astype("int64"), name="out")
    kernel = te.create_prim_func([*params, out]).without_attr("global_symbol")
    with builder.function("main", [x]):
        gv = builder.add_func(kernel, "weigh")
        call = O.call_tir(gv, relax.Tuple([sizes[i] for i in order]), relax.TensorType([4], "int64"))
        result = builder.emit(call)
        builder.emit_func_output(builder.emit(relax.Tuple([result])))
    return builder.finalize()


def scalars(mod) -> list[str]:
    (call,) = [b.value for b in mod["main"].body.blocks[0].bindings if isinstance(b.value.ty, relax.TensorType)]
    return [str(argument) for argument in call.args[1].fields]


def test_scalars_come_in_the_order_of_the_inputs_dims() -> None:
    before = weighted([2, 0, 1])
    after, changed = order_scalars(before)
    assert scalars(before) == ["k", "n", "m"] and scalars(after) == ["n", "m", "k"] and changed == 1
    x = np.zeros((2, 3, 5), "float32")
    np.testing.assert_array_equal(Plain(before)(x)[0], [5 + 20 + 300] * 4)
    np.testing.assert_array_equal(Plain(after)(x)[0], [5 + 20 + 300] * 4)
    assert order_scalars(after) == (after, 0)


def test_fused_functions_keep_their_values() -> None:
    mod = graph(lambda x: O.exp(O.negative(x)), ("n", 3))
    mod, _ = to_dataflow(T.LegalizeOps()(mod))
    mod, _ = unify_scalars(transform.Sequential([T.AnnotateTIROpPattern(), T.FuseOps()])(mod))
    assert order_scalars(mod) == (mod, 0)
