"""If: both branches, dims that differ between them, work that must not happen, conditions known when compiling."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, check_model

import onnxkiln
from onnxkiln.errors import ConversionError, KilnError

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


RANKS = """<ir_version: 10, opset_import: ["" : 20]>
f (bool c, float[n] x) => ({declared} z) {
    z = If(c) <then_branch = t () => (float[n] p) { p = Neg(x) },
               else_branch = e () => (float[n, 1] r) { one = Constant<value_ints=[1]>() r = Unsqueeze(x, one) }>
}"""


def test_branches_of_different_types_are_refused():
    with pytest.raises(ConversionError, match="differ in type"):
        Compiled(onnx.parser.parse_model(RANKS.replace("{declared}", "float")))
    with pytest.raises(ConversionError, match="differ in type"):
        Compiled(onnx.parser.parse_model(RANKS.replace("{declared}", "float[a, b, c]")))


@pytest.mark.parametrize(
    ("declared", "taken", "expected"), [("float[k]", True, [-1, -2]), ("float[k, 1]", False, [[1], [2]])]
)
def test_the_declared_rank_is_compiled_and_the_other_refused_at_run_time(declared, taken, expected, tmp_path):
    onnx.save(onnx.parser.parse_model(RANKS.replace("{declared}", declared)), tmp_path / "m.onnx")
    with onnxkiln.load(onnxkiln.compile(tmp_path / "m.onnx", tmp_path / "a")) as session:
        x = np.array([1, 2], np.float32)
        np.testing.assert_array_equal(session.run(None, {"c": np.array(taken), "x": x})[0], expected)
        with pytest.raises(KilnError, match="takes a branch"):
            session.run(None, {"c": np.array(not taken), "x": x})


SQUEEZED = """<ir_version: 10, opset_import: ["" : 20]>
f (float[n, m] x, float[n, 3] state) => (float[n, 3] y, float[b, 3] second) <int64 one = {1}, int64[1] last = {-1}> {
    size = Shape<start = 1, end = 2>(x)
    single = Equal(size, one)
    flat = If(single) <
        then_branch = t () => (float[a] p) { p = Squeeze(x, last) },
        else_branch = e () => (float[c, d] r) { r = Identity(x) }
    >
    tall = Unsqueeze(flat, last)
    joined = Concat<axis = 1>(tall, state)
    size2 = Shape<start = 1, end = 2>(joined)
    four = Constant<value_ints = [4]>()
    is_four = Equal(size2, four)
    other = If(is_four) <
        then_branch = t2 () => (float[a2, 4] p2) { p2 = Identity(joined) },
        else_branch = e2 () => (float[c2] r2) { r2 = ReduceSum<keepdims = 0>(joined, last) }
    >
    tail = Constant<value_ints = [1]>()
    end = Constant<value_ints = [4]>()
    axis = Constant<value_ints = [1]>()
    y = Slice(other, tail, end, axis)
    again = Constant<value_ints = [0]>()
    second = Add(y, state)
}"""


def test_the_rank_that_what_follows_is_written_for():
    """As torch exports ``if x.shape[-1] == 1: x = x.squeeze(-1)``; two in a row."""
    model = Compiled(onnx.parser.parse_model(SQUEEZED))
    for rows in (1, 5):
        x, state = (RNG.standard_normal(shape).astype(np.float32) for shape in ((rows, 1), (rows, 3)))
        y, second = model({"x": x, "state": state})
        np.testing.assert_array_equal(y, state)
        np.testing.assert_array_equal(second, state + state)
    with pytest.raises(Exception, match=r"20202|branch"):
        model({"x": np.ones((5, 2), np.float32), "state": np.ones((5, 3), np.float32)})


def test_an_inner_choice_does_not_choose_the_outer_branch():
    """Where neither branch of an inner If will do, the outer one is refused, not cut down to its other branch."""
    inner = RANKS[RANKS.index("z = If") : RANKS.rindex("}")].replace("z = If(c)", "z2 = If(d)")
    text = """<ir_version: 10, opset_import: ["" : 20]>
    f (bool c, bool d, float[n] x) => (float z) {
        z = If(c) <then_branch = o () => (float z2) { INNER }, else_branch = w () => (float[n] v) { v = Abs(x) }>
    }""".replace("INNER", inner)
    with pytest.raises(ConversionError, match="differ in type"):
        Compiled(onnx.parser.parse_model(text))
