"""A Pad that only adds at the end, or a Slice from 0, is not taken for an elementwise operator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tvm
from onnx_check import run_artifact
from pass_graphs import graph
from tvm import relax

from onnxkiln.passes.mark_resizing import mark_resizing

O = relax.op  # noqa: E741
T = relax.transform
INJECTIVE = 2


def annotated(function, *shapes) -> tvm.IRModule:
    return T.AnnotateTIROpPattern()(T.LegalizeOps()(graph(function, *shapes)))


def pattern(mod: tvm.IRModule) -> int:
    (kernel,) = [f for f in mod.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    return int(kernel.attrs["op_pattern"])


@pytest.mark.parametrize("rows", [3, "n"])
def test_what_gives_more_or_fewer_elements(rows) -> None:
    padded = annotated(lambda x: O.nn.pad(x, [0, 2, 0, 0]), (rows, 4))
    cut = annotated(lambda x: O.strided_slice(x, [1], [0], [3]), (rows, 4))
    for before in (padded, cut):
        after, count = mark_resizing(before)
        assert pattern(before) < INJECTIVE and pattern(after) == INJECTIVE and count == 1


def test_what_is_elementwise_is_left_alone() -> None:
    cases = [
        (lambda x: O.exp(x), [("n", 4)]),
        (lambda x, y: O.add(x, y), [("n", 4), (1, 4)]),
        (lambda x, y: O.multiply(x, y), [("n", 4), (4,)]),
        (lambda x: O.permute_dims(x), [("n", 4)]),
    ]
    for function, shapes in cases:
        before = annotated(function, *shapes)
        after, count = mark_resizing(before)
        assert after is before and count == 0 and pattern(after) == pattern(before)


FIXED = "y = Pad (a, pads)"
"""Rows are padded by 3."""
COMPLETED = """
    all = Shape <start: int = 1, end: int = 2> (x)
    minus = Neg (all)
    rest = Mod (minus, four)
    sides = Concat <axis: int = 0> (zero, rest)
    y = Pad (a, sides, , one)"""
"""By as many as complete a multiple of 4: the same for 17 rows."""


@pytest.mark.parametrize(("rows", "tail"), [("17", FIXED), ("n", FIXED), ("n", COMPLETED)])
def test_behind_a_product_all_is_written(rows: str, tail: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 18]> g (float[2, {rows}, 8] x) => (float[2, p, 24] y)
        <int64[6] pads = {{0, 0, 0, 0, 3, 0}}, int64[1] zero = {{0}}, int64[1] four = {{4}}, int64[1] one = {{1}}>
        {{ a = MatMul (x, w) {tail} }}"""
    )
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 17, 8)).astype("float32"), rng.standard_normal((8, 24)).astype("float32")
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    expected = np.pad(x @ w, [(0, 0), (0, 3), (0, 0)])
    np.testing.assert_allclose(run_artifact(model, {"x": x})[0], expected, rtol=1e-4, atol=1e-5)
