"""One ONNX model through the whole compiler at each level: the same answers as ONNX Runtime, at every size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxkiln
from onnxkiln.compare import compare

RNG = np.random.default_rng(5)
SHAPES = {"w0": (8, 3, 3, 3), "s": (8, 1, 1), "b": (8, 1, 1), "wd": (8, 1, 3, 3), "wt": (8, 4, 2, 2), "wl": (4, 5)}
MODEL = """<ir_version: 10, opset_import: ["" : 20]>
f (bool flag, float[n, 3, h, w] x) => (float[n, 4, a, c] up, float[n, 5] y, float[n, 3, h, w] same) {
    c0 = Conv<pads = [1, 0, 0, 1], strides = [2, 1]>(x, w0)
    c1 = Mul(c0, s)
    c2 = Add(c1, b)
    c3 = HardSwish(c2)
    c4 = Conv<pads = [1, 1, 1, 1], group = 8>(c3, wd)
    sum = Add(c4, c3)
    up = ConvTranspose<strides = [2, 2]>(sum, wt)
    pooled = ReduceMean<keepdims = 0>(up, axes)
    scores = If(flag) <then_branch = t () => (float[p, 5] t0) { t0 = MatMul(pooled, wl) },
                       else_branch = e () => (float[q, 5] e0) { e1 = MatMul(pooled, wl)  e0 = Neg(e1) }>
    y = Softmax(scores)
    same = Identity(x)
}"""


def model() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(MODEL)
    for name, shape in SHAPES.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(RNG.normal(size=shape).astype("float32"), name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "axes"))
    return proto


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_a_level_computes_what_onnx_runtime_does(level: str, tmp_path) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    reference = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    onnxkiln.compile(tmp_path / "model.onnx", tmp_path / "out", level=level)
    with onnxkiln.load(tmp_path / "out") as session:
        for n, h, w in [(1, 2, 2), (2, 7, 13), (3, 16, 5)]:
            for flag in (True, False):
                x = RNG.normal(size=(n, 3, h, w)).astype("float32")
                feeds = {"flag": np.array(flag), "x": x}
                pairs = zip(reference.run(None, feeds), session.run(None, feeds), strict=True)
                for name, (want, got) in zip(("up", "y", "same"), pairs, strict=True):
                    assert compare(name, want, got).problem is None, (n, h, w, flag)
