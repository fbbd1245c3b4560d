"""LinearAttention against the reference evaluator: every rule, shared heads, a past, one token and many."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Case, case, check_cases, check_model

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(11)


X = [np.zeros(1, np.float32)] * 2


def _inputs(rule: str, q_heads: int, heads: int, dk: int, dv: int, length: int, **more: Any) -> list[np.ndarray | None]:
    """``wide`` decays are per element of a key, ``one`` rate for all heads, ``past`` a state to go on from."""
    shapes: list[tuple[int, ...] | None] = [(2, length, q_heads * dk), (2, length, heads * dk), (2, length, heads * dv)]
    shapes.append((2, heads, dk, dv) if more.get("past") else None)
    shapes.append((2, length, heads * (dk if more.get("wide") else 1)) if "gated" in rule else None)
    shapes.append((2, length, 1 if more.get("one") else heads) if "delta" in rule else None)
    arrays = [None if shape is None else RNG.standard_normal(shape).astype(np.float32) / 2 for shape in shapes]
    return [a if a is None or i < 4 else (-np.abs(a) if i == 4 else np.abs(a)) for i, a in enumerate(arrays)]


def _case(rule: str, q_heads: int, heads: int, dk: int, dv: int, length: int, dtype: Any = "f", **more: Any) -> Case:
    arrays = [None if a is None else a.astype(dtype) for a in _inputs(rule, q_heads, heads, dk, dv, length, **more)]
    while arrays[-1] is None:
        arrays.pop()
    scale = {"scale": more["scale"]} if "scale" in more else {}
    return case(
        "LinearAttention", *arrays, outputs=2, update_rule=rule, q_num_heads=q_heads, kv_num_heads=heads, **scale
    )


@pytest.mark.parametrize("artifact", [False, True])
def test_against_reference(artifact: bool) -> None:
    cases = [
        _case("linear", 2, 2, 5, 3, 7),
        _case("linear", 3, 1, 4, 17, 1, past=True, scale=0.7),
        _case("gated", 4, 2, 8, 16, 5, wide=True),
        _case("gated", 2, 2, 8, 20, 3, past=True),
        _case("delta", 2, 1, 3, 5, 6),
        _case("gated_delta", 4, 2, 16, 32, 9, wide=True, past=True),
        _case("gated_delta", 2, 2, 1, 8, 4, one=True),
        _case("gated_delta", 2, 2, 4, 8, 0, past=True),
    ]
    check_cases(cases, opset=27, rtol=1e-4, artifact=artifact)


def test_narrow_floats() -> None:
    cases = [_case("gated_delta", 2, 1, 4, 8, 5, dtype, past=True) for dtype in (np.float16, ml_dtypes.bfloat16)]
    check_cases(cases, opset=27)


def test_open_batch_and_length() -> None:
    text = """<ir_version: 10, opset_import: ["" : 27]>
        f (float[b, t, 8] q, float[b, t, 8] k, float[b, t, 6] v, float[b, 2, 4, 3] s, float[b, t, 2] d,
           float[b, t, 1] r) => (float[b, t, 6] y, float[b, 2, 4, 3] z) {
            y, z = LinearAttention<q_num_heads=2, kv_num_heads=2>(q, k, v, s, d, r)
        }"""
    feeds = []
    for length in (1, 6):
        arrays = _inputs("gated_delta", 2, 2, 4, 3, length, past=True, one=True)
        feeds.append(dict(zip("qkvsdr", arrays, strict=True)))
    check_model(text, feeds, rtol=1e-4)  # type: ignore[arg-type]


def test_refusals() -> None:
    wrong = case(
        "LinearAttention", *_inputs("linear", 2, 2, 4, 4, 3)[:3], q_num_heads=2, kv_num_heads=2, outputs=2, expected=X
    )
    with pytest.raises(ConversionError, match="'gated_delta' needs its inputs"):
        check_cases([wrong], opset=27)
    with pytest.raises(ConversionError, match=r"last dims \[8, 8, 8\] don't fit \[3, 3\] heads"):
        arrays = _inputs("linear", 2, 2, 4, 4, 3)[:3]
        check_cases(
            [
                case(
                    "LinearAttention",
                    *arrays,
                    update_rule="linear",
                    q_num_heads=3,
                    kv_num_heads=3,
                    outputs=2,
                    expected=X,
                )
            ],
            27,
        )
