"""com.microsoft's activations, normalizations, embeddings and fused operators against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Case, Const, check_cases, check_model
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

rng = np.random.default_rng(16)
MS = "com.microsoft"


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_activations(dims: str) -> None:
    x, bias = 3 * floats(2, 3, 8), floats(8)
    first = "first" if dims == "open" else dims
    items = [
        Case("Gelu", [x], domain=MS, dims=dims),
        Case("BiasGelu", [x, Const(bias)], domain=MS, dims=first),
        Case("FastGelu", [x], domain=MS, dims=dims),
        Case("FastGelu", [x, bias], domain=MS, dims=first),
        Case("QuickGelu", [x], {"alpha": 1.3}, domain=MS, dims=dims),
    ]
    check_cases([by_runtime(item) for item in items], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_normalizations(dims: str) -> None:
    x, skip = floats(2, 3, 8), floats(2, 3, 8)
    scale, shift, bias = (Const(floats(8)) for _ in range(3))
    items = [
        Case("SkipLayerNormalization", [x, skip, scale, shift, bias], {"epsilon": 1e-5}, domain=MS, dims=dims),
        Case("SkipLayerNormalization", [x, floats(3, 8), scale], domain=MS, dims=dims),
        Case("SkipSimplifiedLayerNormalization", [x, skip, scale, bias], domain=MS, dims=dims),
        Case("SkipSimplifiedLayerNormalization", [x, skip, scale], {"epsilon": 1e-3}, domain=MS, dims=dims),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def test_sums_are_an_output_and_simplified_has_no_domain() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>'
        "g (float[2,3,8] x, float[2,3,8] skip, float[8] w) => (float[2,3,8] a, float[2,3,8] b, float[2,3,8] c) {"
        "  a, m, v, total = com.microsoft.SkipSimplifiedLayerNormalization (x, skip, w)"
        "  b = SimplifiedLayerNormalization <axis = -1, epsilon = 0.001> (total, w) c = Identity (total) }"
    )
    model.graph.node[0].output[1:3] = ["", ""]
    feeds = {"x": floats(2, 3, 8), "skip": floats(2, 3, 8), "w": floats(8)}
    check_model(model, feeds, reference="ort", atol=1e-5)
    model.graph.node[0].output[1] = "m"
    model.graph.node[2].input[0] = "m"
    with pytest.raises(ConversionError, match="inv_std_var"):
        check_model(model, feeds, reference="ort")


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_embeddings(dims: str) -> None:
    ids, kinds = (rng.integers(0, n, (2, 5)).astype(np.int32) for n in (11, 2))
    words, places, types = (Const(floats(n, 8)) for n in (11, 7, 2))
    scale, shift = Const(floats(8)), Const(floats(8))
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    inputs = [ids, kinds, words, places, types, scale, shift]
    where = rng.integers(0, 7, (2, 5)).astype(np.int32)
    items = [
        Case("EmbedLayerNormalization", [*inputs, mask], {}, 2, dims, domain=MS),
        Case("EmbedLayerNormalization", [ids, None, words, places, None, scale, shift], {}, 3, dims, domain=MS),
        Case("EmbedLayerNormalization", [*inputs, None, where], {}, 2, domain=MS),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def test_fused_products() -> None:
    a, b = floats(2, 3, 4, 5), floats(2, 3, 5, 6)
    moved = floats(4, 2, 3, 5)  # [M, batch, batch, K]
    items = [
        Case("FusedMatMul", [a, b], {"alpha": 0.5}, domain=MS, dims="shared"),
        Case("FusedMatMul", [a, Const(b)], {"alpha": -2.0}, domain=MS),
        Case("FusedMatMul", [a.swapaxes(2, 3).copy(), b.swapaxes(2, 3).copy()], {"transA": 1, "transB": 1}, domain=MS),
        Case("FusedMatMul", [moved, b], {"transBatchA": 1}, domain=MS),
        Case("FusedMatMul", [floats(5, 2, 3, 4), b], {"transBatchA": 1, "transA": 1}, domain=MS),
        Case("FusedMatMul", [floats(4, 5), Const(floats(5, 6))], domain=MS),
        Case("FusedGemm", [floats(4, 5), Const(floats(5, 6)), Const(floats(6))], {"activation": "Relu"}, domain=MS),
        Case("FusedGemm", [floats(4, 5), Const(floats(6, 5))],
             {"activation": "LeakyRelu", "activation_alpha": 0.3, "transB": 1}, domain=MS),
    ]  # fmt: skip
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def test_fused_convolutions() -> None:
    x, w, bias, z = floats(1, 3, 6, 7), Const(floats(4, 3, 3, 3)), Const(floats(4)), floats(1, 4, 6, 7)
    window = {"pads": [1, 1, 1, 1]}
    items = [
        Case("FusedConv", [x, w, bias, z], {**window, "activation": "Relu"}, domain=MS),
        Case("FusedConv", [x, w, bias], {**window, "activation": "Tanh"}, domain=MS),
        Case("FusedConv", [x, w], {"activation": "LeakyRelu", "activation_params": [0.2]}, domain=MS),
        Case("FusedConv", [x, w], {"activation": "Clip", "activation_params": [-0.5, 0.7]}, domain=MS),
        Case("FusedConv", [x, w], {"activation": "HardSigmoid", "activation_params": [0.2, 0.4]}, domain=MS),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)
