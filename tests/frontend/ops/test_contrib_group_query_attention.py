"""com.microsoft's RotaryEmbedding and GroupQueryAttention against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_check import Case, Const, check_cases, check_model, run
from ort_case import by_runtime

rng = np.random.default_rng(17)
MS = "com.microsoft"
B, S, N, K, H = 2, 5, 4, 2, 16
GROUPED = {"num_heads": N, "kv_num_heads": K}


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def tables(half: int) -> list[Const]:
    angles = np.outer(np.arange(32), 1 / 100 ** (np.arange(half) / half))
    return [Const(np.cos(angles).astype(np.float32)), Const(np.sin(angles).astype(np.float32))]


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_rotary_embedding(dims: str) -> None:
    whole, part = tables(H // 2), tables(H // 4)
    places, start = rng.integers(0, 32, (B, S)), np.array([3])
    partly = {"num_heads": N, "rotary_embedding_dim": H // 2}
    x = floats(B, S, N * H)
    items = [
        Case("RotaryEmbedding", [floats(B, N, S, H), places, *whole], domain=MS, dims=dims),
        Case("RotaryEmbedding", [x, places, *whole], {"num_heads": N}, domain=MS),
        Case("RotaryEmbedding", [x, start, *whole], {"interleaved": 1}, domain=MS),
        Case("RotaryEmbedding", [x, places, *part], partly, domain=MS),
        Case("RotaryEmbedding", [x, places, *part], {**partly, "interleaved": 1}, domain=MS),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_group_query_attention() -> None:
    q, k, v = floats(B, S, N * H), floats(B, S, K * H), floats(B, S, K * H)
    step = [floats(B, 1, N * H), floats(B, 1, K * H), floats(B, 1, K * H)]
    past = [floats(B, K, 6, H), floats(B, K, 6, H)]
    first, whole = [ints(S - 1, S - 1), np.array(S, np.int32)], tables(H // 2)
    rotary = {**GROUPED, "do_rotary": 1}
    interleaved = {**rotary, "rotary_interleaved": 1, "scale": 0.2}
    packed = floats(B, S, (N + 2 * K) * H)
    last, uneven = [ints(6, 6), np.array(7, np.int32)], [ints(4, 6), np.array(7, np.int32)]
    alone = [array[:1] for array in (q, k, v, *past)]
    more = [ints(10), np.array(11, np.int32)]
    capped = {**GROUPED, "local_window_size": 2, "softcap": 1.5}
    items = [
        Case("GroupQueryAttention", [q, k, v, None, None, *first], GROUPED, 3, domain=MS),
        Case("GroupQueryAttention", [q, k, v, None, None, *first, *whole], rotary, 3, domain=MS),
        Case("GroupQueryAttention", [packed, None, None, None, None, *first, *whole], interleaved, 3, domain=MS),
        Case("GroupQueryAttention", [*step, *past, *last, *whole], rotary, 3, domain=MS),
        Case("GroupQueryAttention", [*step, *past, *uneven, *whole], rotary, 3, domain=MS),
        Case("GroupQueryAttention", [*alone, *more, *whole], rotary, 3, domain=MS),
        Case("GroupQueryAttention", [*alone, *more], capped, 3, domain=MS),
    ]
    check_cases([by_runtime(item) for item in items], atol=1e-5)


def test_short_rows_of_a_prompt() -> None:
    """Tokens behind a row's length mean nothing, and ONNX Runtime gives for them what was in its memory."""
    text = (
        '<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>'
        "g (float[2,5,64] q, float[2,5,32] k, int32[2] n, int32 t) => (float[2,5,64] y) {"
        "  y, nk, nv = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2> (q, k, k, , , n, t) }"
    )
    model = onnx.parser.parse_model(text)
    feeds = {"q": floats(B, S, N * H), "k": floats(B, S, K * H), "n": ints(2, 4), "t": np.array(S, np.int32)}
    (got,) = run(model, feeds)
    (wanted,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_allclose(got[0, :3], wanted[0, :3], atol=1e-5)
    np.testing.assert_allclose(got[1], wanted[1], atol=1e-5)


def test_decoding_with_open_lengths() -> None:
    """One artifact serves the prompt and each step after it; the total comes from data."""
    heads = "<num_heads = 4, kv_num_heads = 2, do_rotary = 1>"
    model = (
        '<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>'
        "g (float[b,s,64] q, float[b,s,32] k, float[b,s,32] v, float[b,2,p,16] pk, float[b,2,p,16] pv, int32[b] n,"
        " int32 t, float[32,8] c, float[32,8] d) => (float[b,s,64] y, float[b,2,e,16] nk, float[b,2,e,16] nv)"
        f"{{ y, nk, nv = com.microsoft.GroupQueryAttention {heads} (q, k, v, pk, pv, n, t, c, d) }}"
    )
    cosines, sines = (table.array for table in tables(8))
    feeds = []
    for b, s, p in ((2, 5, 0), (2, 1, 5), (1, 3, 4)):
        new = {"q": floats(b, s, 64), "k": floats(b, s, 32), "v": floats(b, s, 32), "c": cosines, "d": sines}
        past = {"pk": floats(b, 2, p, 16), "pv": floats(b, 2, p, 16)}
        feeds.append({**new, **past, "n": np.full(b, s + p - 1, np.int32), "t": np.array(s + p, np.int32)})
    check_model(model, feeds, reference="ort", atol=1e-5)
