"""Groups that compute with one open size and loop over another are merged, and right."""

from __future__ import annotations

import numpy as np
from pass_graphs import Plain, graph, imported
from tvm import relax, transform

from onnxkiln.passes.to_dataflow import to_dataflow
from onnxkiln.passes.unify_scalars import unify_scalars

O = relax.op  # noqa: E741
T = relax.transform
RANGES = """<ir_version: 10, opset_import: ["" : 20]>
f (float[n, m] x) => (int64[p] y) {
    s = Shape(x)
    zero = Constant<value_int = 0>()
    one = Constant<value_int = 1>()
    n = Gather(s, zero)
    m = Gather(s, one)
    end = Add(n, m)
    a = Range(zero, n, one)
    b = Range(m, end, one)
    y = Mul(a, b)
}"""


def grouped(mod):
    mod, _ = to_dataflow(T.LegalizeOps()(mod))
    return transform.Sequential([T.AnnotateTIROpPattern(), T.FuseOps()])(mod)


def scalars(mod) -> int:
    functions = [f for f in mod.functions.values() if isinstance(f, relax.Function)]
    return sum(not isinstance(p.ty, relax.TensorType | relax.ShapeType) for f in functions for p in f.params)


def test_scalars_move_into_the_shape(tmp_path) -> None:
    before = grouped(imported(RANGES, tmp_path))
    after, count = unify_scalars(before)
    assert count == 1 and scalars(before) > 0 and scalars(after) == 0
    run = Plain(T.FuseTIR()(after))
    for n, m in [(4, 3), (1, 7), (0, 2)]:
        np.testing.assert_array_equal(run(np.zeros((n, m), "float32"))[0], np.arange(n) * np.arange(m, m + n))


def test_other_functions_are_left_alone() -> None:
    mod = grouped(graph(lambda x: O.exp(O.negative(x)), ("n", 3)))
    assert unify_scalars(mod) == (mod, 0)
