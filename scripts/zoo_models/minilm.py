"""all-MiniLM-L6-v2: a BERT encoder of 6 layers, 384 wide."""

from __future__ import annotations

import onnx

from .checkpoint import read_safetensors
from .encoder import build_encoder

LAYERS, HEADS = 6, 12


def build_minilm_l6(data: bytes) -> onnx.ModelProto:
    """Three int64 inputs [batch, seq], output last_hidden_state [batch, seq, 384]; ``data`` is a safetensors file."""
    weights = {name.removeprefix("bert."): value for name, value in read_safetensors(data).items()}
    return build_encoder("minilm_l6", weights, LAYERS, HEADS)
