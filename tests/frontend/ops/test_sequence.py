"""Sequences against ONNX Runtime: of known length, out of loops and branches, split, joined, mapped."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, check_model, run_artifact

import onnxkiln
from onnxkiln.errors import ConversionError, InputError, KilnError, ModelError, UsageError
from onnxkiln.verifier import verify

RNG = np.random.default_rng(6)
HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def int64(value: int) -> np.ndarray:
    return np.array(value, np.int64)


KNOWN = (
    HEAD
    + """f (float[n] x, float[m] y, int64 p) => (float[a] u, float[b] v, float[c] w, int64 k, int64 j) {
    zero = Constant<value = int64 {0}>()
    last = Constant<value = int64 {-1}>()
    s = SequenceConstruct(x, y)
    z = Neg(x)
    t = SequenceInsert(s, z, zero)
    r = SequenceInsert(t, x, last)
    u = SequenceAt(r, p)
    e = SequenceErase(r, zero)
    d = SequenceErase(e)
    v = SequenceAt(d, last)
    w = ConcatFromSequence<axis = 0>(e)
    k = SequenceLength(r)
    none = SequenceEmpty()
    j = SequenceLength(none)
}"""
)


def test_known_lengths():
    """Only the place that comes at run time makes a list."""
    feeds = [{"x": floats(2), "y": floats(3), "p": int64(p)} for p in (0, 3, -1, -3)]
    check_model(KNOWN, feeds, reference="ort")
    model = Compiled(onnx.parser.parse_model(KNOWN))
    assert str(model.imported.module["main"]).count("ffi.List") == 2
    for p in (4, -5):
        with pytest.raises(Exception, match="match"):
            model({**feeds[0], "p": int64(p)})


GATHERED = (
    HEAD
    + """f (int64 m, float[n] x, int64 p) => (float[k] y, float[q, n] z, int64 count, float[r] one, float[s] two) {
    yes = Constant<value = bool {1}>()
    none = SequenceEmpty<dtype = 1>()
    all = Loop(m, yes, none) <body = b (int64 i, bool ci, seq(float[n]) a) => (bool co, seq(float[n]) ao) {
        co = Identity(ci)
        f = Cast<to = 1>(i)
        v = Add(x, f)
        ao = SequenceInsert(a, v)
    }>
    y = ConcatFromSequence<axis = 0>(all)
    z = ConcatFromSequence<axis = 0, new_axis = 1>(all)
    one = SequenceAt(all, p)
    fewer = SequenceErase(all, p)
    front = SequenceInsert(fewer, one, p)
    two = SequenceAt(front, p)
    count = SequenceLength(fewer)
}"""
)


def test_what_a_loop_gathers():
    feeds = [{"m": int64(m), "x": floats(3), "p": int64(p)} for m, p in ((2, 0), (5, -2), (7, 6))]
    check_model(GATHERED, feeds, reference="ort")
    y, z, count, one, two = run_artifact(onnx.parser.parse_model(GATHERED), feeds[1])
    rows = feeds[1]["x"] + np.arange(5, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(y, rows.reshape(-1))
    np.testing.assert_array_equal(z, rows)
    np.testing.assert_array_equal([one, two], [rows[3], rows[2]])
    assert count == 4


def test_an_item_that_is_an_input_is_copied():
    """The caller's array must not come back as an output."""
    text = (
        HEAD
        + """f (bool c, float[n] x, float[n] y) => (float[a] z) {
        zero = Constant<value = int64 {0}>()
        s = If(c) <then_branch = t () => (seq(float[n]) p) { p = SequenceConstruct(x, y) },
                   else_branch = e () => (seq(float[n]) q) { q = SequenceConstruct(y) }>
        z = SequenceAt(s, zero)
    }"""
    )
    proto = onnx.parser.parse_model(text)
    feeds = [{"c": np.array(c), "x": floats(3), "y": floats(3)} for c in (True, False)]
    check_model(proto, feeds, reference="ort")
    (result,) = run_artifact(proto, feeds[0])
    np.testing.assert_array_equal(result, feeds[0]["x"])
    assert not np.shares_memory(result, feeds[0]["x"])


SPLITS = (
    HEAD
    + """f (float[7, n] x, int64 size) => (float[a, n] u, float[7, b] v, float[c] w, float[d, n] r, int64[4] k) {
    one = Constant<value = int64 {1}>()
    last = Constant<value = int64 {-1}>()
    parts = Constant<value_ints = [2, 4, 1]>()
    three = Constant<value = int64 {3}>()
    s = SplitToSequence(x, parts)
    u = SequenceAt(s, one)
    t = SplitToSequence<axis = 1>(x, size)
    v = SequenceAt(t, last)
    rows = SplitToSequence<keepdims = 0>(x)
    w = SequenceAt(rows, last)
    even = SplitToSequence(x, three)
    r = SequenceAt(even, last)
    lens = SequenceLength(s)
    lent = SequenceLength(t)
    lenr = SequenceLength(rows)
    lene = SequenceLength(even)
    zero = Constant<value_ints = [0]>()
    ls = Unsqueeze(lens, zero)
    lt = Unsqueeze(lent, zero)
    lr = Unsqueeze(lenr, zero)
    le = Unsqueeze(lene, zero)
    k = Concat<axis = 0>(ls, lt, lr, le)
}"""
)


def test_splits():
    feeds = [{"x": floats(7, n), "size": int64(size)} for n, size in ((4, 2), (5, 2), (1, 3), (6, 6))]
    check_model(SPLITS, feeds, reference="ort")


MAPPED = (
    HEAD
    + """f (float[n, 2] x, float[2] y, int64 step) => (float[a, 2] z, float[b, 2] w) {
    rows = SplitToSequence(x, step)
    mapped = SequenceMap(rows, y) <body = b (float[p, 2] e, float[2] g) => (float[q, 2] o) { o = Add(e, g) }>
    z = ConcatFromSequence<axis = 0>(mapped)
    pair = SequenceConstruct(x, z)
    other = SequenceConstruct(z, x)
    sums = SequenceMap(pair, other) <body = c (float[p, 2] e, float[r, 2] g) => (float[q, 2] o) { o = Sub(e, g) }>
    w = ConcatFromSequence<axis = 0>(sums)
}"""
)


def test_maps():
    x, y = floats(5, 2), floats(2)
    model = Compiled(onnx.parser.parse_model(MAPPED))
    for step in (1, 2, 5):
        z, w = model({"x": x, "y": y, "step": int64(step)})
        np.testing.assert_allclose(z, x + y, rtol=1e-6)
        np.testing.assert_allclose(w, np.concatenate([x - (x + y), (x + y) - x]), rtol=1e-6)


LISTS = (
    HEAD
    + """f (seq(float[n]) s, seq(float[n]) u, int64 m, float[k] x)
        => (seq(float[n]) same, seq(float[p]) t, float[q] y) {
    yes = Constant<value = bool {1}>()
    same = Identity(s)
    t = Loop(m, yes, u) <body = b (int64 i, bool ci, seq(float[n]) a) => (bool co, seq(float[n]) ao) {
        co = Identity(ci)
        item = SequenceAt(s, i)
        moved = Add(item, x)
        ao = SequenceInsert(a, moved)
    }>
    y = ConcatFromSequence<axis = 0>(t)
}"""
)


def test_lists_in_and_out(tmp_path):
    onnx.save(onnx.parser.parse_model(LISTS), tmp_path / "model.onnx")
    s, x = [floats(3), floats(1), floats(2)], floats(1)
    with onnxkiln.load(onnxkiln.compile(tmp_path / "model.onnx", tmp_path / "artifact")) as session:
        assert [arg.type for arg in session.get_inputs()[1:3]] == ["seq(tensor(float))", "tensor(int64)"]
        feeds = {"s": s, "u": [], "m": int64(2), "x": x}
        same, t, y = session.run(None, feeds)
        assert isinstance(same, list) and len(t) == 2
        for found, expected in zip([*same, *t], [*s, s[0] + x, s[1] + x], strict=True):
            np.testing.assert_array_equal(found, expected)
            assert not any(np.shares_memory(found, item) for item in s)
        np.testing.assert_array_equal(y, np.concatenate(t))
        assert [len(found) for found in session.run(["t", "same"], {**feeds, "u": tuple(s)})] == [5, 3]
        with pytest.raises(InputError, match="'s' must be a list of arrays, found ndarray"):
            session.run(None, {**feeds, "s": x})
        with pytest.raises(InputError, match="'u' must hold arrays of dtype float32, found int64 at 1"):
            session.run(None, {**feeds, "u": [x, int64(2)]})
        with pytest.raises(UsageError, match="takes and gives tensors only: s: a list of float32 tensors"):
            session.run_dlpack([x])
        with pytest.raises(KilnError, match="refused to run"):
            session.run(None, {**feeds, "m": int64(4)})
    with pytest.raises(UsageError, match="only models of tensors can be verified"):
        verify(tmp_path / "artifact", tmp_path / "model.onnx")


def test_refusals():
    text = HEAD + "f (float[n] x) => (optional(float[n]) s) { s = Optional(x) }"
    with pytest.raises(ModelError, match="output 's' is an optional value"):
        Compiled(onnx.parser.parse_model(text))
    text = HEAD + "f (float[n] x) => (float[n] y) { s = SequenceConstruct(x, x)  y = Neg(s) }"
    with pytest.raises(ConversionError, match="a tensor is needed here"):
        Compiled(onnx.parser.parse_model(text))
    text = (
        HEAD
        + """f (float[n] x) => (float[n] y) {
        three = Constant<value = int64 {3}>() s = SequenceConstruct(x, x) y = SequenceAt(s, three)
    }"""
    )
    with pytest.raises(ConversionError, match="no position 3 in a sequence of 2"):
        Compiled(onnx.parser.parse_model(text))
