"""Fusion may put a kernel before the dims that it needs or the check that guards it; the order is restored."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import Plain, graph, imported
from tvm import relax

from onnxkiln.passes.order_bindings import order_bindings
from onnxkiln.passes.to_dataflow import to_dataflow

O = relax.op  # noqa: E741
T = relax.transform
UNRELATED = """<ir_version: 10, opset_import: ["" : 20]>
f (float[n, 3] x, float[m, 3] y, float[k, 3] z) => (float[p, 3] w) {
    a = Add(x, y)
    b = Add(a, z)
    w = Relu(b)
}"""


def fused(mod: tvm.IRModule) -> tvm.IRModule:
    mod, _ = to_dataflow(T.LegalizeOps()(mod))
    return tvm.transform.Sequential([T.AnnotateTIROpPattern(), T.FuseOps(), T.FuseTIR(), T.DeadCodeElimination()])(mod)


def kinds(mod: tvm.IRModule) -> list[str]:
    """What is bound, in order: "match" or the kernel's name."""
    found = []
    for binding in mod["main"].body.blocks[0].bindings:
        if isinstance(binding, relax.MatchCast):
            found.append("match")
        elif isinstance(binding.value, tvm.ir.Call) and isinstance(binding.value.args[0], tvm.ir.GlobalVar):
            found.append(binding.value.args[0].name_hint)
    return found


def test_matches_come_first(tmp_path) -> None:
    before = fused(imported(UNRELATED, tmp_path))
    after, moved = order_bindings(before)
    kernel = next(name for name in kinds(after) if name.startswith("fused"))
    assert moved and kinds(before)[-1] == "match" and kinds(after)[-1] == kernel
    assert sorted(kinds(before)) == sorted(kinds(after))
    assert order_bindings(after) == (after, 0)


def test_values_stay_and_wrong_sizes_fail(tmp_path) -> None:
    run = Plain(order_bindings(fused(imported(UNRELATED, tmp_path)))[0])
    rng = np.random.default_rng(0)
    for n, m, k in [(4, 4, 4), (1, 5, 1), (1, 1, 7)]:
        x, y, z = (rng.normal(size=(size, 3)).astype("float32") for size in (n, m, k))
        np.testing.assert_allclose(run(x, y, z)[0], np.maximum(x + y + z, 0), rtol=1e-6)
    with pytest.raises(Exception, match=r"(?i)match|shape"):
        run(x, np.zeros((3, 3), "float32"), np.zeros((2, 3), "float32"))


def test_other_code_is_left_alone() -> None:
    mod = fused(graph(lambda x: O.exp(O.sum(O.negative(x), axis=1)), ("n", 3)))
    assert order_bindings(mod) == (mod, 0)
