"""Compiled kernels take inputs at any address, in any memory and byte order: in a child, for they would crash."""

import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import onnxkiln
from onnxkiln.compare import compare

# Convolution (Winograd and direct), depthwise, matrix products of both kinds, softmax, a copy, an elementwise chain.
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
graph (float[n, 32, 9, 11] x, float[n, 7, 33] a, float[n, 33, 21] b)
    => (float[n, c, h, w] conv, float[n, m, k] product, float[n, m, l] soft, float[n, m, l] same,
        float[n, 32, 9, 11] chain)
    <float[40, 32, 3, 3] w3, float[32, 1, 3, 3] wd, float[33, 19] w>
{
    wide = Conv<pads = [1, 1, 1, 1]>(x, w3)
    deep = Conv<pads = [1, 1, 1, 1], strides = [2, 2], group = 32>(x, wd)
    flat = GlobalAveragePool(deep)
    pooled = GlobalAveragePool(wide)
    conv = Concat<axis = 1>(flat, pooled)
    dense = MatMul(a, w)
    computed = MatMul(a, b)
    product = Concat<axis = 2>(dense, computed)
    soft = Softmax(a)
    same = Identity(a)
    twice = Add(x, x)
    chain = Relu(twice)
}
"""

CHILD = """
import sys
import numpy as np
import onnxkiln

def placed(array, offset):
    memory = np.empty(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    result = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result

forms = {
    **{f"offset {n}": lambda x, n=n: placed(x, n) for n in (0, 4, 16, 32)},
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "Fortran order": np.asfortranarray,
    "big-endian": lambda x: x.astype(">f4"),
}
feeds = dict(np.load(sys.argv[2]))
with onnxkiln.load(sys.argv[1]) as session:
    names = [output.name for output in session.get_outputs()]
    results = {}
    for form, make in forms.items():
        found = session.run(None, {name: make(array) for name, array in feeds.items()})
        results |= {f"{form}/{name}": array for name, array in zip(names, found)}
np.savez(sys.argv[3], **results)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    weights = {"w3": (40, 32, 3, 3), "wd": (32, 1, 3, 3), "w": (33, 19)}
    del proto.graph.initializer[:]
    for name, shape in weights.items():
        array = (rng.standard_normal(shape) / 10).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path_factory.mktemp("inputs") / "model.onnx"
    onnx.save(proto, path)
    return path


def test_inputs_in_every_form(model, tmp_path):
    artifact = onnxkiln.compile(model, tmp_path / "artifact")
    rng = np.random.default_rng(1)
    shapes = {"x": (3, 32, 9, 11), "a": (3, 7, 33), "b": (3, 33, 21)}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "feeds.npz", **feeds)
    expected = onnxruntime.InferenceSession(model).run(None, feeds)
    command = [sys.executable, "-c", CHILD, artifact, tmp_path / "feeds.npz", tmp_path / "found.npz"]
    subprocess.run(command, check=True)
    found = np.load(tmp_path / "found.npz")
    names = [output.name for output in onnx.load(model).graph.output]
    assert len(found.files) == 8 * len(names)
    for key in found.files:
        reference = expected[names.index(key.split("/")[1])]
        assert compare(key, reference, found[key]).problem is None, key
