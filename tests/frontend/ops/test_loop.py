"""Loop against ONNX Runtime: counts, conditions, carried shapes that change, collected rows, nesting, flat memory."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, check_model, run_artifact

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(4)
HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'

COUNTED = (
    HEAD
    + """f (int64 m, bool c, float[n] x) => (float[n] y, float[k, n] z, int64[k2] w) {
    y, z, w = Loop(m, c, x) <body = b (int64 i, bool ci, float[n] a) => (bool co, float[n] ao, float[n] row, int64 j) {
        f = Cast<to=1>(i)
        ao = Add(a, f)
        row = Mul(ao, x)
        co = Identity(ci)
        j = Add(i, i)
    }>
}"""
)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def int64(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def counted(m: int, c: bool, x: np.ndarray) -> dict:
    return {"m": int64(m), "c": np.array(c), "x": x}


def test_counts():
    check_model(COUNTED, [counted(m, True, floats(n)) for m in (1, 2, 7) for n in (0, 1, 3)], reference="ort")


@pytest.mark.parametrize(("m", "c"), [(0, True), (-2, True), (3, False)])
def test_no_iteration(m, c):
    """The rows' sizes are known all the same; ONNX Runtime makes them 0."""
    x = floats(3)
    y, z, w = Compiled(onnx.parser.parse_model(COUNTED))(counted(m, c, x))
    np.testing.assert_array_equal(y, x)
    assert z.shape == (0, 3) and w.shape == (0,)


def test_a_whole_compile():
    proto = onnx.parser.parse_model(COUNTED)
    x = floats(5)
    y, z, w = run_artifact(proto, counted(13, True, x))
    rows = np.cumsum(np.arange(13, dtype=np.float32))[:, None] + x
    np.testing.assert_allclose(y, rows[-1], rtol=1e-5)
    np.testing.assert_allclose(z, rows * x, rtol=1e-5)
    np.testing.assert_array_equal(w, 2 * np.arange(13))


def test_rows_are_not_computed_inside_of_storing_them():
    """Fused, the row would be an array on the stack: an empty one doesn't compile, a large one overflows it."""
    proto = onnx.parser.parse_model(COUNTED.replace("float[n]", "float[0]"))
    y, z, w = run_artifact(proto, counted(3, True, floats(0)))
    assert y.shape == (0,) and z.shape == (3, 0) and w.tolist() == [0, 2, 4]


UNTIL = (
    HEAD
    + """f (float[2] x, float limit, bool c) => (float[2] y, int64 n, float[k] sums, bool[k2] odd) {
    zero = Constant<value = int64 {0}>()
    no = Constant<value = bool {0}>()
    y, n, flag, sums, odd = Loop(, c, x, zero, no) <
        body = b (int64 i, bool ci, float[2] a, int64 count, bool was) =>
            (bool co, float[2] ao, int64 next, bool is, float sum, bool odd) {
        ao = Add(a, a)
        sum = ReduceSum<keepdims = 0>(ao)
        one = Constant<value = int64 {1}>()
        next = Add(count, one)
        is = Not(was)
        odd = Identity(was)
        co = Less(sum, limit)
    }>
}"""
)


def test_conditions_and_values_of_other_types():
    """Collected rows of a number that only the run finds out: 0, 1, and past the first size of their buffer."""
    start = np.array([0.5, 0.25], np.float32)
    limits = [0, 2, 100, 1e7]
    feeds = [{"x": start, "limit": np.array(v, np.float32), "c": np.array(True)} for v in limits]
    check_model(UNTIL, [*feeds, {**feeds[0], "c": np.array(False)}], reference="ort")


GROWING = (
    HEAD
    + """f (int64 m, float[n, 2] x, bool c) => (float[k, 2] y, float[r] last, int64[i2] sizes) {
    first = Constant<value = float[1] {1.0}>()
    y, last, sizes = Loop(m, c, x, first) <
        body = b (int64 i, bool ci, float[p, 2] a, float[q] l) => (bool co, float[p2, 2] ao, float[q2] lo, int64 size) {
        ao = Concat<axis = 0>(a, x)
        zero = Constant<value_int = 0>()
        shape = Shape(ao)
        size = Gather(shape, zero)
        limit = Constant<value_int = 40>()
        co = Less(size, limit)
        start = Constant<value_ints = [0]>()
        one = Constant<value_ints = [1]>()
        i1 = Unsqueeze(i, start)
        end = Add(i1, one)
        flat = Constant<value_ints = [-1]>()
        row = Reshape(ao, flat)
        lo = Slice(row, start, end)
    }>
}"""
)


def test_carried_shapes_that_change():
    cases = [(m, n) for m in (0, 1, 4, 50) for n in (1, 3)] + [(3, 0)]
    feeds = [{"m": int64(m), "x": floats(n, 2), "c": np.array(True)} for m, n in cases]
    check_model(GROWING, feeds[:-1], reference="ort")


def test_rows_of_a_size_found_inside():
    text = (
        HEAD
        + """f (int64 m, float[n] x) => (float[k, r] rows) {
        yes = Constant<value = bool {1}>()
        rows = Loop(m, yes) <body = b (int64 i, bool ci) => (bool co, float[r] row) {
            co = Identity(ci)
            kept = NonZero(x)
            zero = Constant<value_ints = [0]>()
            index = Squeeze(kept, zero)
            values = Gather(x, index)
            f = Cast<to = 1>(i)
            row = Add(values, f)
        }>
    }"""
    )
    x = np.array([1, 0, 2, 0, 3], np.float32)
    feeds = [{"m": int64(m), "x": x * scale} for m, scale in ((1, 1), (9, 1), (20, 1), (3, 0))]
    check_model(text, feeds, reference="ort")


NESTED = (
    HEAD
    + """f (int64 m, float[n] x, bool c) => (float[n] y, float[a, b, n] z) <float[2, 3] w> {
    yes = Constant<value = bool {1}>()
    y, z = Loop(m, yes, x) <
        body = outer (int64 i, bool ci, float[n] a) => (bool co, float[n] ao, float[b, n] rows) {
            co = Identity(ci)
            two = Constant<value = int64 {2}>()
            times = Add(i, two)
            fixed = Constant<value = int64 {3}>()
            ao, unused = Loop(times, yes, a) <
                body = inner (int64 j, bool cj, float[n] p) => (bool cq, float[n] q, float[n] row) {
                    cq = Identity(cj)
                    k = Add(i, j)
                    f = Cast<to = 1>(k)
                    g = Mul(x, f)
                    q = If(c) <then_branch = t () => (float[n] u) { u = Add(p, g) },
                               else_branch = e () => (float[n] v) { v = Sub(p, g) }>
                    row = Identity(q)
                }>
            rows = Loop(fixed, yes) <
                body = third (int64 j3, bool cj3) => (bool cq3, float[n] row3) {
                    cq3 = Identity(cj3)
                    f3 = Cast<to = 1>(j3)
                    row3 = Mul(ao, f3)
                }>
        }>
}"""
).replace(" <float[2, 3] w>", "")


def test_nested_loops_and_branches():
    feeds = [{"m": int64(m), "x": floats(3), "c": np.array(c)} for m in (1, 4) for c in (True, False)]
    check_model(NESTED, feeds, reference="ort")


def test_a_loop_inside_a_branch_with_weights():
    """Through all passes: what the body captures, weights among it, reaches it through two functions."""
    text = (
        HEAD
        + """f (bool c, int64 m, float[2, 3] x) => (float[2, 3] y)
        <float[3, 3] w = {0.5, 0.1, 0.2, 0.3, 0.4, 0.1, 0.0, 0.2, 0.3}> {
        yes = Constant<value = bool {1}>()
        y = If(c) <then_branch = t () => (float[2, 3] p) {
            p = Loop(m, yes, x) <body = b (int64 i, bool ci, float[2, 3] a) => (bool co, float[2, 3] ao) {
                co = Identity(ci)
                product = MatMul(a, w)
                ao = Add(product, x)
            }>
        }, else_branch = e () => (float[2, 3] q) { q = Neg(x) }>
    }"""
    )
    proto, x = onnx.parser.parse_model(text), floats(2, 3)
    w = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    expected = x
    for _ in range(6):
        expected = expected @ w + x
    (result,) = run_artifact(proto, {"c": np.array(True), "m": int64(6), "x": x})
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    check_model(proto, {"c": np.array(False), "m": int64(6), "x": x}, reference="ort")


def test_what_iterations_hand_on_stays_known():
    """Through the body unchanged: the shape it holds is a constant for the reshape inside."""
    text = (
        HEAD
        + """f (int64 m, float[6] x) => (float[2, 3] y, int64[2] kept) {
        yes = Constant<value = bool {1}>()
        shape = Constant<value_ints = [2, 3]>()
        zeros = ConstantOfShape(shape)
        y, kept = Loop(m, yes, zeros, shape) <
            body = b (int64 i, bool ci, float[2, 3] a, int64[2] s) => (bool co, float[2, 3] ao, int64[2] so) {
            co = Identity(ci)
            so = Identity(s)
            r = Reshape(x, s)
            ao = Add(a, r)
        }>
    }"""
    )
    model = Compiled(onnx.parser.parse_model(text))
    assert model.imported.contract.outputs[0].shape == (2, 3)
    check_model(text, [{"m": int64(m), "x": floats(6)} for m in (0, 3)], reference="ort")


BODIES = {
    "states that swap, and their shapes with them": (
        """f (int64 m, float[n] x, float[q] y) => (float[a] u, float[b] v) {
            yes = Constant<value = bool {1}>()
            u, v = Loop(m, yes, x, y) <
                body = b (int64 i, bool ci, float[n] p, float[q] r) => (bool co, float[q] po, float[n] ro) {
                co = Identity(ci)
                po = Identity(r)
                ro = Neg(p)
            }>
        }""",
        {"x": floats(5), "y": floats(2)},
    ),
    "rows read and written by the iteration's number": (
        """f (int64 m, float[n, 3] x, float[1, 3] u, float[n, 3] t) => (float[n, 3] y) {
            yes = Constant<value = bool {1}>()
            y = Loop(m, yes, x) <body = b (int64 i, bool ci, float[n, 3] a) => (bool co, float[n, 3] ao) {
                co = Identity(ci)
                shape = Constant<value_ints = [1, 1]>()
                place = Reshape(i, shape)
                row = Gather(t, i)
                sum = Add(row, u)
                ao = ScatterND(a, place, sum)
            }>
        }""",
        {"x": floats(5, 3), "u": floats(1, 3), "t": floats(5, 3)},
    ),
    "a branch in each iteration": (
        """f (int64 m, float[n] x) => (float[k] y, float[q] s) {
            yes = Constant<value = bool {1}>()
            y, s = Loop(m, yes, x) <body = b (int64 i, bool ci, float[p] a) => (bool co, float[p2] ao, float t) {
                co = Identity(ci)
                two = Constant<value = int64 {2}>()
                zero = Constant<value = int64 {0}>()
                r = Mod(i, two)
                even = Equal(r, zero)
                ao = If(even) <then_branch = t () => (float[a1] u) { u = Concat<axis = 0>(a, x) },
                               else_branch = e () => (float[a2] v) { v = Neg(a) }>
                t = ReduceSum<keepdims = 0>(ao)
            }>
        }""",
        {"x": floats(3)},
    ),
    "values from outside, and constants, as results": (
        """f (int64 m, float[2] x, float[2] w) => (float[2] u, float[2] c, float[k, 2] v, int64[k] s) {
            yes = Constant<value = bool {1}>()
            u, c, v, s = Loop(m, yes, x, w) <
                body = b (int64 i, bool ci, float[2] p, float[2] r)
                    => (bool co, float[2] po, float[2] ro, float[2] row, int64 q) {
                co = Identity(ci)
                po = Identity(w)
                ro = Constant<value = float[2] {1, 2}>()
                row = Identity(r)
                q = Constant<value = int64 {7}>()
            }>
        }""",
        {"x": floats(2), "w": floats(2)},
    ),
    "halves, doubles and bytes": (
        """f (int64 m, float16[3] x, double[2] d, uint8[2] e) => (float16[3] u, double[2] v, uint8[k, 2] rows) {
            yes = Constant<value = bool {1}>()
            u, v, w, rows = Loop(m, yes, x, d, e) <
                body = b (int64 i, bool ci, float16[3] p, double[2] q, uint8[2] r)
                    => (bool co, float16[3] po, double[2] qo, uint8[2] ro, uint8[2] row) {
                co = Identity(ci)
                po = Add(p, x)
                qo = Mul(q, d)
                ro = Add(r, e)
                row = Identity(r)
            }>
        }""",
        {"x": floats(3).astype(np.float16), "d": floats(2).astype(np.float64), "e": np.array([100, 3], np.uint8)},
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name):
    text, feeds = BODIES[name]
    check_model(HEAD + text, [{**feeds, "m": int64(m)} for m in (1, 2, 5)], reference="ort")


def test_a_condition_without_a_first_one():
    """The specification would ignore what the body says then; ONNX Runtime, and so we, stop."""
    text = (
        HEAD
        + """f (int64 m, float x) => (float y) {
        y = Loop(m, , x) <body = b (int64 i, bool ci, float a) => (bool co, float ao) {
            one = Constant<value = float {1}>()
            ao = Add(a, one)
            most = Constant<value = float {3}>()
            co = Less(ao, most)
        }>
    }"""
    )
    check_model(text, [{"m": int64(m), "x": np.array(0, np.float32)} for m in (2, 10)], reference="ort")


def test_many_iterations_in_flat_memory():
    """Recursion would overflow the stack; a state kept per iteration would show."""
    text = (
        HEAD
        + """f (int64 m, float[1000] x) => (float[1000] y) {
        yes = Constant<value = bool {1}>()
        y = Loop(m, yes, x) <body = b (int64 i, bool ci, float[1000] a) => (bool co, float[1000] ao) {
            co = Identity(ci)
            ao = Sub(x, a)
        }>
    }"""
    )
    model, x = Compiled(onnx.parser.parse_model(text)), floats(1000)
    before = resident()
    (result,) = model({"m": int64(30001), "x": x})
    np.testing.assert_array_equal(result, x - x)
    assert resident() - before < 60e6  # the states alone would be 120 MB


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_refusals():
    text = (
        HEAD
        + """f (int64 m, float[n] x) => (float[n] y) {
        yes = Constant<value = bool {1}>()
        y = Loop(m, yes, x) <body = b (int64 i, bool ci, float[n] a) => (bool co, float[n, 1] ao) {
            co = Identity(ci)
            one = Constant<value_ints = [1]>()
            ao = Unsqueeze(a, one)
        }>
    }"""
    )
    with pytest.raises(ConversionError, match="of rank 1 before an iteration and float32 of rank 2 after it"):
        Compiled(onnx.parser.parse_model(text))
