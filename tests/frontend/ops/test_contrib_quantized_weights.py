"""MatMulNBits and DynamicQuantizeLSTM against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx_check import Case, Const, check_cases, run
from ort_case import by_runtime

rng = np.random.default_rng(18)
MS = "com.microsoft"


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def byte_weights(*shape: int) -> Const:
    return Const(rng.integers(0, 256, shape).astype(np.uint8))


@pytest.mark.parametrize("bits", [4, 8])
def test_matmul_nbits(bits: int) -> None:
    """A depth that is no multiple of the block; zero points packed, as floats, or left out."""
    n, k, block = 18, 83, 16
    blocks = -(-k // block)
    attributes = {"N": n, "K": k, "block_size": block, "bits": bits}
    weight, scales = byte_weights(n, blocks, block * bits // 8), Const(np.abs(floats(n, blocks)) / 20)
    zeros = byte_weights(n, -(-blocks * bits // 8))
    x, bias = floats(2, 5, k), Const(floats(n))
    items = [
        Case("MatMulNBits", [x, weight, scales], attributes, domain=MS),
        Case("MatMulNBits", [x, weight, scales, zeros], attributes, domain=MS, dims="open"),
        Case("MatMulNBits", [x, weight, scales, None, None, bias], attributes, domain=MS),
    ]
    check_cases([by_runtime(item) for item in items], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("columns", "dtype", "batch", "hidden"),
    [(False, "int8", 2, 8), (True, "int8", 1, 19), (False, "uint8", 3, 16), (True, "uint8", 1, 1)],
)
def test_dynamic_quantize_lstm(columns: bool, dtype: str, batch: int, hidden: int) -> None:
    """As on one thread, where the hidden state of the whole batch is rounded together."""
    time, size = 6, 5
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
    scales = [np.abs(floats(2, 4 * hidden) if columns else floats(2)) / 200 + 0.001 for _ in range(2)]
    arrays = {
        "x": floats(time, batch, size),
        "w": rng.integers(low, high, (2, size, 4 * hidden)).astype(dtype),
        "r": rng.integers(low, high, (2, hidden, 4 * hidden)).astype(dtype),
        "b": floats(2, 8 * hidden) / 4,
        "ws": scales[0],
        "wz": np.full(scales[0].shape, 0 if low else 125, dtype),
        "rs": scales[1],
        "rz": np.full(scales[1].shape, 0 if low else 125, dtype),
    }
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    attributes = {"direction": "bidirectional", "hidden_size": hidden}
    node = oh.make_node("DynamicQuantizeLSTM", names, ["y", "h", "c"], domain=MS, **attributes)
    weights = [
        oh.make_tensor(name, oh.np_dtype_to_tensor_dtype(a.dtype), a.shape, a.tobytes(), raw=True)
        for name, a in arrays.items()
        if name != "x"
    ]
    data = oh.make_tensor_value_info("x", 1, ["t", "n", size])
    outputs = [oh.make_tensor_value_info(name, 1, None) for name in ("y", "h", "c")]
    graph = oh.make_graph([node], "g", [data], outputs, weights)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17), oh.make_opsetid(MS, 1)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": arrays["x"]}
    for got, wanted in zip(run(model, feeds), session.run(None, feeds), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=2e-6)
        assert np.abs(wanted).max() > 0.1
