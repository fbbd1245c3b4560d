"""If: both branches, dims that differ between them, work that must not happen, conditions known when compiling."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(3)

BOTH = """<ir_version: 10, opset_import: ["" : 20]>
f (bool c, float[n, 3] x) => (float[k, 3] y, float[m] w) {
    one = Constant<value_ints=[1]>()
    y, w = If(c) <
        then_branch = t () => (float[a, 3] p, float[q] u) {
            p = Add(x, x)
            u = ReduceSum<keepdims=0>(x, one)
        },
        else_branch = e () => (float[b, 3] r, float[s] v) {
            r = Concat<axis=0>(x, x)
            v = ReduceSum<keepdims=0>(r, one)
        }
    >
}"""


def feeds(condition: bool, rows: int) -> dict:
    return {"c": np.array(condition), "x": RNG.standard_normal((rows, 3)).astype("f")}


def test_branches_whose_dims_differ():
    check_model(BOTH, [feeds(c, n) for c in (True, False) for n in (1, 4, 0)])


def test_dims_that_agree_stay_known():
    model = Compiled(onnx.parser.parse_model(BOTH))
    assert model.imported.contract.outputs[0].shape[1] == 3


def test_only_the_branch_taken_runs():
    """The other branch would fail a check of dims if it ran."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
    f (bool[1] c, float[n] x, float[m] y) => (float[k] z) {
        z = If(c) <then_branch = t () => (float[a] p) { p = Add(x, y) },
                   else_branch = e () => (float[b] r) { r = Neg(x) }>
    }"""
    model = Compiled(onnx.parser.parse_model(text))
    x, y = np.arange(3, dtype=np.float32), np.arange(2, dtype=np.float32)
    (result,) = model({"c": np.array([False]), "x": x, "y": y})
    np.testing.assert_array_equal(result, -x)
    with pytest.raises(Exception, match="match"):
        model({"c": np.array([True]), "x": x, "y": y})


def test_nested_ifs_and_equal_names_in_both_branches():
    text = """<ir_version: 10, opset_import: ["" : 20]>
    f (bool c, bool d, float[n, 3] x) => (float[n, 3] z) {
        z = If(c) <
            then_branch = t () => (float[n, 3] o) {
                i = Add(x, x)
                o = If(d) <then_branch = tt () => (float[n, 3] w) { w = Mul(i, x) },
                           else_branch = te () => (float[n, 3] w2) { w2 = Sub(i, x) }>
            },
            else_branch = e () => (float[n, 3] o2) { i2 = Mul(x, x)  o2 = Relu(i2) }
        >
    }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.node[0].attribute[1].g.node[0].output[0] = "i"
    proto.graph.node[0].attribute[1].g.node[1].input[0] = "i"
    cases = [{"c": np.array(c), "d": np.array(d), "x": feeds(c, 2)["x"]} for c in (True, False) for d in (True, False)]
    check_model(proto, cases, reference="onnx")


@pytest.mark.parametrize(("size", "kept"), [(2, "add"), (3, "multiply")])
def test_a_condition_known_when_compiling_keeps_one_branch(size, kept):
    text = """<ir_version: 10, opset_import: ["" : 20]>
    f (float[n] x) => (float[n] z) {
        two = Constant<value_int=2>()
        zero = Constant<value_int=0>()
        shape = Shape(x)
        size = Gather(shape, zero)
        c = Equal(size, two)
        z = If(c) <then_branch = t () => (float[n] p) { p = Add(x, x) },
                   else_branch = e () => (float[n] r) { r = Mul(x, x) }>
    }"""
    model = Compiled(onnx.parser.parse_model(text), {"x": [size]})
    printed = str(model.imported.module["main"])
    assert f"R.{kept}" in printed and "if " not in printed


def test_branches_of_different_types_are_refused():
    text = """<ir_version: 10, opset_import: ["" : 20]>
    f (bool c, float[n] x) => (float[k] z) {
        z = If(c) <then_branch = t () => (float[n] p) { p = Neg(x) },
                   else_branch = e () => (float[n, 1] r) { one = Constant<value_ints=[1]>() r = Unsqueeze(x, one) }>
    }"""
    with pytest.raises(ConversionError, match="differ in type"):
        Compiled(onnx.parser.parse_model(text))
