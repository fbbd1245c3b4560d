"""A BERT encoder as a graph, with an open batch and sequence."""

from __future__ import annotations

import numpy as np
import onnx

from .checkpoint import Weights
from .graph import Graph, TensorInfo


class _Encoder:
    def __init__(self, weights: Weights, heads: int):
        self.weights, self.graph = weights, Graph()
        self.width = weights["embeddings.LayerNorm.bias"].size
        scale = (self.width // heads) ** 0.5
        scalars = {"one": 1, "lowest": -3.4028235e38, "scale": scale, "sqrt2": 2**0.5, "half": 0.5}
        for name, value in scalars.items():
            self.graph.constant(name, np.float32(value))
        self.graph.constant("second", np.int64(1))
        self.graph.indices("zero", 0)
        self.graph.indices("axes12", 1, 2)
        self.graph.indices("heads", 0, 0, heads, self.width // heads)
        self.graph.indices("merged", 0, 0, self.width)

    def weight(self, name: str, transposed: bool = False) -> str:
        value = self.weights[name]
        return self.graph.constant(f"{name}_t" if transposed else name, value.T if transposed else value)

    def linear(self, x: str, name: str) -> str:
        product = self.graph.node("MatMul", x, self.weight(f"{name}.weight", transposed=True))
        return self.graph.node("Add", product, self.weight(f"{name}.bias"))

    def normalize(self, x: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.graph.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)

    def embed(self) -> str:
        node = self.graph.node
        words = node("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids", axis=0)
        kinds = node("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids", axis=0)
        length = node("Unsqueeze", node("Gather", node("Shape", "input_ids"), "second", axis=0), "zero")
        positions = node("Slice", self.weight("embeddings.position_embeddings.weight"), "zero", length, "zero")
        return self.normalize(node("Add", node("Add", words, kinds), positions), "embeddings.LayerNorm")

    def attention(self, x: str, mask: str, name: str) -> str:
        node = self.graph.node
        orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
        query, key, value = (
            node("Transpose", node("Reshape", self.linear(x, f"{name}.self.{part}"), "heads"), perm=order)
            for part, order in orders.items()
        )
        scores = node("Add", node("Div", node("MatMul", query, key), "scale"), mask)
        mixed = node("MatMul", node("Softmax", scores, axis=-1), value)
        merged = node("Reshape", node("Transpose", mixed, perm=[0, 2, 1, 3]), "merged")
        residual = node("Add", self.linear(merged, f"{name}.output.dense"), x)
        return self.normalize(residual, f"{name}.output.LayerNorm")

    def feed_forward(self, x: str, name: str) -> str:
        node = self.graph.node
        hidden = self.linear(x, f"{name}.intermediate.dense")
        bell = node("Add", node("Erf", node("Div", hidden, "sqrt2")), "one")
        hidden = node("Mul", node("Mul", hidden, bell), "half")
        residual = node("Add", self.linear(hidden, f"{name}.output.dense"), x)
        return self.normalize(residual, f"{name}.output.LayerNorm")


def build_encoder(name: str, weights: Weights, layers: int, heads: int) -> onnx.ModelProto:
    """Three int64 inputs [batch, seq], output last_hidden_state [batch, seq, width]; weights as torch names them."""
    encoder = _Encoder(weights, heads)
    node = encoder.graph.node
    x = encoder.embed()
    visible = node("Cast", node("Unsqueeze", "attention_mask", "axes12"), to=onnx.TensorProto.FLOAT)
    mask = node("Mul", node("Sub", "one", visible), "lowest")
    for layer in range(layers):
        x = encoder.attention(x, mask, f"encoder.layer.{layer}.attention")
        x = encoder.feed_forward(x, f"encoder.layer.{layer}")
    node("Identity", x, output="last_hidden_state")
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs: list[TensorInfo] = [(name, onnx.TensorProto.INT64, ["batch", "seq"]) for name in names]
    output: TensorInfo = ("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "seq", encoder.width])
    return encoder.graph.model(name, inputs, [output], 17)
