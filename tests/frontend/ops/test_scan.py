"""Scan against ONNX Runtime: states, axes, directions, open lengths, the batched form, nesting, many steps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, check_model, run_artifact

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(5)
HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


SUMS = (
    HEAD
    + """f (float[n] start, float[t, n] x, int64[t] w, float scale) => (float[n] y, float[t, n] sums, int64[t] v) {
    y, sums, v = Scan<num_scan_inputs = 2, body = b (float[n] s, float[n] e, int64 g)
        => (float[n] so, float[n] row, int64 h) {
        scaled = Mul(e, scale)
        so = Add(s, scaled)
        row = Identity(so)
        h = Add(g, g)
    }>(start, x, w)
}"""
)


def sums(steps: int, size: int) -> dict:
    numbers = RNG.integers(-9, 9, steps)
    return {"start": floats(size), "x": floats(steps, size), "w": numbers, "scale": np.array(0.5, np.float32)}


def test_states_and_rows():
    check_model(SUMS, [sums(t, n) for t in (1, 2, 13) for n in (1, 5)], reference="ort")


def test_no_step_and_no_element():
    model = Compiled(onnx.parser.parse_model(SUMS))
    for feed in (sums(0, 3), sums(4, 0), sums(0, 0)):
        y, rows, v = model(feed)
        assert rows.shape == feed["x"].shape and v.shape == feed["w"].shape
        np.testing.assert_array_equal(y, feed["start"])


AXES = (
    HEAD
    + """f (float[2, 3] start, float[2, t, 3] x, float[t, 3, 2] z)
        => (float[2, 3] y, float[2, t, 3] p, float[2, 3, t] q) {
    y, p, q = Scan<num_scan_inputs = 2, scan_input_axes = [1, -3], scan_input_directions = [1, 0],
        scan_output_axes = [1, -1], scan_output_directions = [0, 1],
        body = b (float[2, 3] s, float[2, 3] e, float[3, 2] g) => (float[2, 3] so, float[2, 3] a, float[2, 3] c) {
        turned = Transpose(g)
        added = Add(s, e)
        so = Mul(added, turned)
        a = Neg(so)
        c = Add(e, turned)
    }>(start, x, z)
}"""
)


def test_axes_and_directions():
    feeds = [{"start": floats(2, 3), "x": floats(2, t, 3), "z": floats(t, 3, 2)} for t in (1, 5)]
    check_model(AXES, feeds, reference="ort")


def test_a_recurrent_layer_through_all_passes():
    """What tf2onnx and older exporters make of a cell: a product with weights in each step."""
    text = (
        HEAD
        + """f (float[2, 3] start, float[t, 2, 4] x) => (float[2, 3] y, float[t, 2, 3] rows) {
        y, rows = Scan<num_scan_inputs = 1, body = b (float[2, 3] s, float[2, 4] e)
            => (float[2, 3] so, float[2, 3] row) {
            a = MatMul(e, w)
            c = MatMul(s, r)
            d = Add(a, c)
            so = Tanh(d)
            row = Identity(so)
        }>(start, x)
    }"""
    )
    proto = onnx.parser.parse_model(text)
    w, r = floats(4, 3), floats(3, 3)
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(r, "r")])
    state, x = floats(2, 3), floats(6, 2, 4)
    y, rows = run_artifact(proto, {"start": state, "x": x})
    for step in range(6):
        state = np.tanh(x[step] @ w + state @ r)
        np.testing.assert_allclose(rows[step], state, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y, state, rtol=1e-4, atol=1e-5)


BATCHED = """<ir_version: 4, opset_import: ["" : 8]>
f (LENGTHS float[b, n] start, float[b, t, n] x) => (float[b, n] y, float[b, t, n] rows) {
    y, rows = Scan<num_scan_inputs = 1, directions = [DIRECTION],
        body = b (float[n] s, float[n] e) => (float[n] so, float[n] row) {
        so = Add(s, e)
        row = Mul(so, e)
    }>(NAME start, x)
}"""


@pytest.mark.parametrize(("direction", "lengths"), [("0", False), ("1", True)])
def test_the_batched_form(direction, lengths):
    text = BATCHED.replace("LENGTHS", "int64[b] l," if lengths else "").replace("NAME", "l," if lengths else ",")
    feed = {"start": floats(3, 2), "x": floats(3, 5, 2)}
    spans = np.array([5, 0, 3] if lengths else [5, 5, 5])
    y, rows = Compiled(onnx.parser.parse_model(text.replace("DIRECTION", direction)))(
        {**feed, "l": spans} if lengths else feed
    )
    expected, collected = feed["start"].copy(), np.zeros((3, 5, 2), np.float32)
    for b, span in enumerate(spans):
        for step in range(span):
            e = feed["x"][b, span - 1 - step if direction == "1" else step]
            expected[b] += e
            collected[b, step] = expected[b] * e
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows, collected, rtol=1e-5, atol=1e-6)


def test_nested_and_many_steps():
    text = (
        HEAD
        + """f (float[n] start, float[t, u, n] x) => (float[n] y, float[t, u] z) {
        y, z = Scan<num_scan_inputs = 1, body = b (float[n] s, float[u, n] e) => (float[n] so, float[u] row) {
            so, row = Scan<num_scan_inputs = 1, body = c (float[n] p, float[n] g) => (float[n] po, float m) {
                po = Sub(g, p)
                m = ReduceMax<keepdims = 0>(po)
            }>(s, e)
        }>(start, x)
    }"""
    )
    feeds = [{"start": floats(3), "x": floats(t, u, 3)} for t, u in ((2, 3), (1, 1), (5, 1200))]
    check_model(text, feeds, reference="ort")


def test_refusals():
    proto = onnx.parser.parse_model(SUMS)
    del proto.graph.node[0].input[2]
    with pytest.raises(ConversionError, match="takes 3 values, which doesn't fit 0 states and 2 sequences"):
        Compiled(proto)
