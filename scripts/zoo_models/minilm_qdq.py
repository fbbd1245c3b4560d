"""A MiniLM of three layers, quantized statically by ONNX Runtime's own tool, as its documentation says."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

SENTENCES, WORDS = (16, 32, 64), 20000
"""Lengths of the texts that ranges are taken from, and how many of the vocabulary's pieces they draw on."""


def build_minilm_qdq(data: bytes) -> onnx.ModelProto:
    """``data`` is the float model; around every MatMul, activations become uint8 and weights int8 per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Texts(CalibrationDataReader):
        def __init__(self) -> None:
            random = np.random.default_rng(0)
            self._feeds = iter([_text(random, length) for length in SENTENCES])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory(prefix="onnxkiln-zoo-") as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "qdq.onnx"
        source.write_bytes(data)
        quantize_static(
            source,
            target,
            Texts(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def _text(random: np.random.Generator, length: int) -> dict[str, Any]:
    ids = random.integers(1000, WORDS, (1, length)).astype(np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
