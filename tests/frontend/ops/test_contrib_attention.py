"""com.microsoft's attentions against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, check_cases, check_model
from ort_case import by_runtime

rng = np.random.default_rng(15)
MS = "com.microsoft"
B, S, N, H = 2, 5, 3, 4
D = N * H


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def ints(*values: int | list[int]) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_attention(dims: str) -> None:
    x, weight, bias = floats(B, S, 7), Const(floats(7, 3 * D)), Const(floats(3 * D))
    heads, causal = {"num_heads": N}, {"num_heads": N, "unidirectional": 1}
    padding = ints([1, 1, 1, 0, 0], [1, 1, 1, 1, 1])
    past = floats(2, B, N, 2, H)
    longer = np.concatenate([np.ones((B, 2), np.int32), padding], 1)
    uneven = {"num_heads": N, "qkv_hidden_sizes": [D, D, 2 * D], "scale": 0.3}
    square = np.tril(np.ones((S, S), np.int32))[None].repeat(B, 0)
    items = [
        Case("Attention", [x, weight, bias], heads, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, padding], heads, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, padding], {**causal, "mask_filter_value": -3.4e38}, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, ints(3, 5)], heads, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, ints(3, 5, 1, 0)], heads, domain=MS),
        Case("Attention", [x, weight, bias, square], heads, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, longer, past], causal, 2, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, None, past], causal, 2, domain=MS, dims=dims),
        Case("Attention", [x, Const(floats(7, 4 * D)), Const(floats(4 * D))], uneven, domain=MS, dims=dims),
        Case("Attention", [x, weight, bias, None, None, floats(1, N, S, S)], heads, domain=MS, dims=dims),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def test_multi_head_attention() -> None:
    q, k, v, bias = floats(B, S, D), floats(B, 6, D), floats(B, 6, D), Const(floats(3 * D))
    heads, causal = {"num_heads": N}, {"num_heads": N, "unidirectional": 1}
    padding = ints([1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0])
    past = [floats(B, N, 2, H), floats(B, N, 2, H)]
    items = [
        Case("MultiHeadAttention", [q, k, v], heads, domain=MS),
        Case("MultiHeadAttention", [q, k, v, bias, padding], heads, domain=MS),
        Case("MultiHeadAttention", [q, k, v, None, None, floats(B, 1, S, 6)], {**heads, "scale": 0.7}, domain=MS),
        Case("MultiHeadAttention", [q, q, q, bias, None, None, *past], causal, 3, domain=MS),
        Case("MultiHeadAttention", [q, k, v], causal, domain=MS),
        Case("MultiHeadAttention", [k, q, q], causal, domain=MS),
        Case("MultiHeadAttention", [k, q, q, None, None, None, *past], causal, 3, domain=MS),
        Case("MultiHeadAttention", [q, floats(B, N, 6, H), floats(B, N, 6, H)], heads, domain=MS),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def test_packed_projections() -> None:
    """ONNX Runtime's CPU kernels don't take them: the answer is that of the unpacked ones."""
    q, k, v = (floats(B, S, N, H) for _ in range(3))
    heads = {"num_heads": N}
    plain = Case("MultiHeadAttention", [x.reshape(B, S, D) for x in (q, k, v)], heads, domain=MS)
    expected = by_runtime(plain).expected[0]
    packed = [[np.stack([q, k, v], 3)], [q.reshape(B, S, D), np.stack([k, v], 3)]]
    cases = [Case("MultiHeadAttention", inputs, heads, 1, expected=[expected], domain=MS) for inputs in packed]
    check_cases(cases, atol=1e-5)


def test_open_batch_and_lengths() -> None:
    model = (
        '<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>'
        "g (float[b,s,12] q, float[b,t,12] k, int32[b,t] m, float[b,3,p,4] old)"
        " => (float[b,s,12] y, float[b,s,12] z) {"
        "  y = com.microsoft.MultiHeadAttention <num_heads = 3> (q, k, k, , m)"
        "  z, u, v = com.microsoft.MultiHeadAttention <num_heads = 3, unidirectional = 1> (q, q, q, , , , old, old) }"
    )
    feeds = [
        {"q": floats(b, s, D), "k": floats(b, t, D), "m": np.ones((b, t), np.int32), "old": floats(b, N, p, H)}
        for b, s, t, p in ((2, 5, 6, 3), (1, 1, 1, 0))
    ]
    check_model(model, feeds, reference="ort", atol=1e-5)
