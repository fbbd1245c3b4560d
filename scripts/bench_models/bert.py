"""BERT base, uncased (arXiv:1810.04805): the zoo's encoder, twelve layers deep and 768 wide."""

from __future__ import annotations

import numpy as np
import onnx

from zoo_models.checkpoint import Weights
from zoo_models.encoder import build_encoder

LAYERS, HEADS, WIDTH, HIDDEN, WORDS, POSITIONS = 12, 12, 768, 3072, 30522, 512


def build_bert_base() -> onnx.ModelProto:
    """Three int64 inputs [batch, seq], output last_hidden_state [batch, seq, 768]; 109 million weights."""
    return build_encoder("bert_base", _weights(), LAYERS, HEADS)


def _weights() -> Weights:
    random = np.random.default_rng(0)
    weights: Weights = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        weights[name] = random.standard_normal((rows, columns), np.float32) * np.float32(0.02)

    def linear(name: str, inputs: int, outputs: int) -> None:
        matrix(f"{name}.weight", outputs, inputs)
        weights[f"{name}.bias"] = np.zeros(outputs, np.float32)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = np.ones(WIDTH, np.float32)
        weights[f"{name}.bias"] = np.zeros(WIDTH, np.float32)

    matrix("embeddings.word_embeddings.weight", WORDS, WIDTH)
    matrix("embeddings.token_type_embeddings.weight", 2, WIDTH)
    matrix("embeddings.position_embeddings.weight", POSITIONS, WIDTH)
    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", WIDTH, WIDTH)
        linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", WIDTH, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, WIDTH)
        norm(f"{layer}.output.LayerNorm")
    return weights
