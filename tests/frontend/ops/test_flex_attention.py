"""FlexAttention against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(12)


def _model(attributes: str = "", heads: int = 4, dtype: str = "float") -> str:
    return f"""<ir_version: 10, opset_import: ["" : 22, "ai.onnx.preview" : 1]>
        f ({dtype}[b, 4, s, 8] q, {dtype}[b, {heads}, t, 8] k, {dtype}[b, {heads}, t, 5] v, float[t] bias)
            => ({dtype}[b, 4, s, 5] y) {{
            y = ai.onnx.preview.FlexAttention{attributes}(q, k, v)
        }}"""


BIAS = "score_mod = g (float[B, H, L, S] x) => (float[B, H, L, S] z) { z = Add(x, bias) }"
DROP = "prob_mod = h (float[B, H, L, S] p) => (float[B, H, L, S] r) { r = Mul(p, p) }"


def _feeds(heads: int = 4, dtype: str = "f") -> list[dict[str, np.ndarray]]:
    shapes = [(2, 3, 7), (1, 1, 1)]
    made = []
    for b, s, t in shapes:
        arrays = [
            RNG.standard_normal(shape).astype(dtype) for shape in ((b, 4, s, 8), (b, heads, t, 8), (b, heads, t, 5))
        ]
        made.append({**dict(zip("qkv", arrays, strict=True)), "bias": RNG.standard_normal(t).astype("f")})
    return made


@pytest.mark.parametrize("attributes", ["", "<scale = 0.3>", f"<{BIAS}>", f"<{BIAS}, {DROP}>"])
def test_against_reference(attributes: str) -> None:
    """The graphs see the outer graph's values."""
    if "bias" not in attributes:
        check_model(_model(attributes), _feeds(), rtol=1e-4)
        return
    for feed in _feeds():
        scores = np.einsum("bhsd,bhtd->bhst", feed["q"], feed["k"]) / np.sqrt(8) + feed["bias"]
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        chances = powers / powers.sum(-1, keepdims=True)
        wanted = np.einsum("bhst,bhtv->bhsv", chances**2 if "prob_mod" in attributes else chances, feed["v"])
        np.testing.assert_allclose(_run(_model(attributes), feed), wanted, 1e-4, 1e-5)


def _run(text: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    import onnx
    from onnx_check import Compiled

    return Compiled(onnx.parser.parse_model(text))(feed)[0]


def test_shared_heads_and_other_floats() -> None:
    check_model(_model(heads=2), _feeds(heads=2), rtol=1e-4)
    check_model(_model(heads=1, dtype="float16"), _feeds(heads=1, dtype="e"))
    check_model(_model("<softmax_precision = 11>", dtype="double"), _feeds(dtype="d"), rtol=1e-4)


def test_refusals() -> None:
    with pytest.raises(ConversionError, match="4 heads of queries can't share 3 heads of keys"):
        check_model(_model(heads=3), _feeds(heads=3))
