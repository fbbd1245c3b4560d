"""Straight runs become dataflow blocks around control flow; what is read across a block stays visible."""

from __future__ import annotations

import numpy as np
import pytest
from pass_graphs import Plain, graph, imported
from tvm import relax

from onnxkiln.passes.outline_branches import outline_branches
from onnxkiln.passes.to_dataflow import to_dataflow

O = relax.op  # noqa: E741
AROUND = """<ir_version: 10, opset_import: ["" : 20]>
f (bool c, float[n, 4] x) => (float[n, 4] z, float[n, 4] u) {
    a = Exp(x)
    b = Neg(a)
    y = If(c) <then_branch = t () => (float[p, 4] p0) { p0 = Mul(b, x) },
               else_branch = e () => (float[q, 4] q0) { q0 = Add(b, a) }>
    u = Sin(b)
    z = Mul(y, u)
}"""


def blocks(mod, name: str = "main") -> list[bool]:
    return [isinstance(block, relax.DataflowBlock) for block in mod[name].body.blocks]


def test_a_straight_function_is_one_block() -> None:
    mod = graph(lambda x: O.exp(O.negative(x)), ("n", 3))
    after, count = to_dataflow(mod)
    assert count == 1 and blocks(after) == [True] and blocks(mod) == [False]
    variables = [type(binding.var).__name__ for binding in after["main"].body.blocks[0].bindings]
    assert variables == ["DataflowVar", "DataflowVar", "Var"]
    assert relax.analysis.well_formed(after) in (None, True)
    x = np.float32([[1, 2, 3]])
    np.testing.assert_allclose(Plain(after)(x)[0], np.exp(-x), rtol=1e-6)


@pytest.mark.parametrize("outlined", [False, True])
def test_control_flow_stays_outside(tmp_path, outlined: bool) -> None:
    mod = imported(AROUND, tmp_path)
    mod = outline_branches(mod)[0] if outlined else mod
    after, count = to_dataflow(mod)
    assert blocks(after) == [True, False, True]
    assert count == (4 if outlined else 2)  # the branches are straight functions
    assert relax.analysis.well_formed(after) in (None, True)


def test_calls_with_effects_stay_outside() -> None:
    """In a dataflow block they would go, as nothing reads what they return."""
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType([2], "float32"))
    with builder.function("main", [x], pure=False):
        items = builder.emit(O.call_pure_packed("ffi.List", x, ty_args=[relax.ObjectType()]))
        builder.emit(relax.Call(relax.ExternFunc("ffi.ListAppend"), [items, x], None, [relax.ObjectType()]))
        builder.emit_func_output(builder.emit(O.exp(x)))
    after, count = to_dataflow(builder.finalize())
    assert count == 2 and blocks(after) == [True, False, True]
    assert "ffi.ListAppend" in str(relax.transform.DeadCodeElimination()(after))


def test_values_stay(tmp_path) -> None:
    after, _ = to_dataflow(outline_branches(imported(AROUND, tmp_path))[0])
    run, x = Plain(after), np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    for condition in (True, False):
        z, u = run(np.array(condition), x)
        y = -np.exp(x) * x if condition else -np.exp(x) + np.exp(x)
        np.testing.assert_allclose(u, np.sin(-np.exp(x)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(z, y * u, rtol=1e-5, atol=1e-5)
