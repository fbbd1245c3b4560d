"""Attention, RotaryEmbedding and CausalConvWithState through ONNX's own definitions of them: more than its tests."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import case, check_cases, check_model

RNG = np.random.default_rng(14)


def _floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CACHED = """<ir_version: 10, opset_import: ["" : 24]>
    f (float[b, 6, s, 8] q, float[b, 2, s, 8] k, float[b, 2, s, 5] v, float[b, 2, p, 8] pk, float[b, 2, p, 5] pv,
       bool[s, t] m) => (float[b, 6, s, 5] y, float[b, 2, t, 8] nk, float[b, 2, t, 5] nv, float[b, 6, s, t] qk) {
        y, nk, nv, qk = Attention<is_causal = 1, softcap = 3.0, qk_matmul_output_mode = 1>(q, k, v, m, pk, pv)
    }"""


def test_cache_of_any_length() -> None:
    """Prefill with an empty past, one token with a long one, several with a short one; heads are shared."""
    feeds = []
    for b, s, p in ((2, 5, 0), (1, 1, 9), (1, 3, 2)):
        shapes = {"q": (b, 6, s, 8), "k": (b, 2, s, 8), "v": (b, 2, s, 5), "pk": (b, 2, p, 8), "pv": (b, 2, p, 5)}
        arrays = {name: _floats(*shape) for name, shape in shapes.items()}
        feeds.append({**arrays, "m": RNG.random((s, s + p)) > 0.2})
    check_model(CACHED, feeds, rtol=1e-4, atol=1e-5)


FLAT = """<ir_version: 10, opset_import: ["" : 24]>
    f (float[b, s, 24] q, float[b, t, 12] k, float[b, t, 12] v, float[b, 1, s, t] m, int64[b] n)
        => (float[b, s, 24] y) {
        y = Attention<q_num_heads = 4, kv_num_heads = 2, scale = 0.4>(q, k, v, m, "", "", n)
    }"""


def test_three_dims_with_padding_and_masked_rows() -> None:
    """A row that may look at nothing gives 0, not NaN."""
    feeds = []
    for b, s, t in ((2, 3, 7), (1, 1, 4)):
        mask = np.where(RNG.random((b, 1, s, t)) > 0.6, -np.inf, _floats(b, 1, s, t)).astype(np.float32)
        mask[0, 0, 0] = -np.inf
        lengths = RNG.integers(1, t + 1, b)
        feeds.append({"q": _floats(b, s, 24), "k": _floats(b, t, 12), "v": _floats(b, t, 12), "m": mask, "n": lengths})
    check_model(FLAT, feeds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats(dtype: type) -> None:
    q, k, v = (_floats(*shape).astype(dtype) for shape in ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 8)))
    wide = [x.astype(np.float32) for x in (q, np.repeat(k, 2, 1), np.repeat(v, 2, 1))]
    scores = np.einsum("bhsd,bhtd->bhst", *wide[:2]) / np.sqrt(8)
    chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = np.einsum("bhst,bhtd->bhsd", chances, wide[2]).astype(dtype)
    check_cases([case("Attention", q, k, v, expected=wanted)], opset=24)


def test_whole_compiler() -> None:
    q, k, v, mask = _floats(2, 17, 48), _floats(2, 33, 48), _floats(2, 33, 48), RNG.random((2, 1, 17, 33)) > 0.3
    cases = [
        case("Attention", q, k, v, mask, q_num_heads=3, kv_num_heads=3),
        case("Attention", q, k, v, q_num_heads=3, kv_num_heads=3, is_causal=1),
    ]
    check_cases(cases, opset=24, rtol=1e-4, atol=1e-5, artifact=True)


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_rotary_embedding(dims: str) -> None:
    x, table, places = _floats(2, 3, 5, 16), _floats(11, 8), RNG.integers(0, 11, (2, 5))
    cases = [
        case("RotaryEmbedding", x, table, _floats(11, 8), places, dims=dims),
        case("RotaryEmbedding", x, table, _floats(11, 8), places, interleaved=1, dims=dims),
        case("RotaryEmbedding", x, _floats(11, 4), _floats(11, 4), places, rotary_embedding_dim=8, dims=dims),
        case("RotaryEmbedding", x, _floats(2, 5, 8), _floats(2, 5, 8), dims=dims),
    ]
    check_cases(cases, opset=23, rtol=1e-4)
    flat = _floats(2, 5, 48)
    check_cases([case("RotaryEmbedding", flat, table, table[::-1].copy(), places, num_heads=3)], opset=23, rtol=1e-4)


def test_causal_convolution_with_state() -> None:
    cases = [
        case("CausalConvWithState", _floats(2, 6, 5), _floats(6, 1, 4), _floats(6), _floats(2, 6, 3), outputs=2),
        case(
            "CausalConvWithState",
            _floats(2, 6, 1),
            _floats(6, 1, 3),
            None,
            _floats(2, 6, 2),
            outputs=2,
            activation="silu",
        ),
        case("CausalConvWithState", _floats(1, 3, 7), _floats(3, 1, 2), outputs=2),
    ]
    check_cases(cases, opset=27, rtol=1e-4)
