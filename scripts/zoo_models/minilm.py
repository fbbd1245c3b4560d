"""all-MiniLM-L6-v2 as a graph: a BERT encoder of 6 layers, 384 wide, with an open batch and sequence."""

from __future__ import annotations

import numpy as np
import onnx

from .checkpoint import Weights, read_safetensors
from .graph import Graph, TensorInfo

LAYERS, HEADS, WIDTH = 6, 12, 384


class _Encoder:
    def __init__(self, weights: Weights):
        self.weights, self.graph = weights, Graph()
        scalars = {"one": 1, "lowest": -3.4028235e38, "scale": (WIDTH // HEADS) ** 0.5, "sqrt2": 2**0.5, "half": 0.5}
        for name, value in scalars.items():
            self.graph.constant(name, np.float32(value))
        self.graph.constant("second", np.int64(1))
        self.graph.indices("zero", 0)
        self.graph.indices("axes12", 1, 2)
        self.graph.indices("heads", 0, 0, HEADS, WIDTH // HEADS)
        self.graph.indices("merged", 0, 0, WIDTH)

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


def build_minilm_l6(data: bytes) -> onnx.ModelProto:
    """Three int64 inputs [batch, seq], output last_hidden_state [batch, seq, 384]; ``data`` is a safetensors file."""
    weights = {name.removeprefix("bert."): value for name, value in read_safetensors(data).items()}
    encoder = _Encoder(weights)
    node = encoder.graph.node
    x = encoder.embed()
    visible = node("Cast", node("Unsqueeze", "attention_mask", "axes12"), to=onnx.TensorProto.FLOAT)
    mask = node("Mul", node("Sub", "one", visible), "lowest")
    for layer in range(LAYERS):
        x = encoder.attention(x, mask, f"encoder.layer.{layer}.attention")
        x = encoder.feed_forward(x, f"encoder.layer.{layer}")
    node("Identity", x, output="last_hidden_state")
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs: list[TensorInfo] = [(name, onnx.TensorProto.INT64, ["batch", "seq"]) for name in names]
    output: TensorInfo = ("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "seq", WIDTH])
    return encoder.graph.model("minilm_l6", inputs, [output], 17)
