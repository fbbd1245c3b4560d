"""SmolLM2-135M as a graph with past and present key-values; its 4-bit GGUF weights are dequantized to fp32."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import onnx

from .checkpoint import Weights
from .graph import Graph, TensorInfo

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, VOCABULARY = 30, 576, 9, 3, 64, 49152
ROPE_BASE = 100000.0
FLOAT = onnx.TensorProto.FLOAT


def _read_gguf(data: bytes) -> Weights:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.gguf"
        path.write_bytes(data)
        tensors = gguf.GGUFReader(path).tensors
        return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32) for tensor in tensors}


def _split_halves(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """GGUF interleaves the two halves that rotary embedding turns; the graph below keeps them apart."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, rows, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


class _Decoder:
    def __init__(self, weights: Weights):
        self.weights, self.graph = weights, Graph()
        self._constants()
        self.sequence, self.past, self.total = self._lengths()
        self.cos, self.sin, self.mask = self._positions()
        self.expanded, self.full = self._repeat_shapes()

    def _constants(self) -> None:
        graph = self.graph
        for axis in (0, 1, 2, -1):
            graph.indices(f"axis{axis}", axis)
        for index in (0, 1, 2):
            graph.constant(f"index{index}", np.int64(index))
        for name, value in {"epsilon": 1e-5, "two": 2, "scale": HEAD**-0.5, "lowest": -3.4e38}.items():
            graph.constant(name, np.float32(value))
        for name, shape in {"q": (0, 0, HEADS, HEAD), "kv": (0, 0, KV_HEADS, HEAD), "merged": (0, 0, WIDTH)}.items():
            graph.indices(f"{name}_shape", *shape)
        for name, size in {"half": HEAD // 2, "head": HEAD, "heads": HEADS, "kv_heads": KV_HEADS}.items():
            graph.indices(name, size)
        graph.indices("repeats", HEADS // KV_HEADS)
        frequencies = ROPE_BASE ** -(np.arange(0, HEAD, 2, dtype=np.float64) / HEAD)
        graph.constant("frequencies", frequencies.astype(np.float32)[None])
        graph.constant("embedding", self.weights["token_embd.weight"])

    def _lengths(self) -> tuple[str, str, str]:
        node = self.graph.node
        sequence = node("Gather", node("Shape", "input_ids"), "index1", axis=0)
        past = node("Gather", node("Shape", "past_key_values.0.key"), "index2", axis=0)
        return sequence, past, node("Add", sequence, past)

    def _positions(self) -> tuple[str, str, str]:
        """Cosine and sine of the rotary embedding, and which positions may see which."""
        node = self.graph.node
        here = node("Range", self.past, self.total, "index1")
        everywhere = node("Unsqueeze", node("Range", "index0", self.total, "index1"), "axis0")
        mask = node("LessOrEqual", everywhere, node("Unsqueeze", here, "axis1"))
        angle = node("Mul", node("Unsqueeze", node("Cast", here, to=FLOAT), "axis1"), "frequencies")
        both = node("Concat", angle, angle, axis=-1)
        return node("Cos", both), node("Sin", both), mask

    def _repeat_shapes(self) -> tuple[str, str]:
        node = self.graph.node
        batch = node("Unsqueeze", node("Gather", node("Shape", "input_ids"), "index0", axis=0), "axis0")
        total = node("Unsqueeze", self.total, "axis0")
        expanded = node("Concat", batch, "kv_heads", "repeats", total, "head", axis=0)
        return expanded, node("Concat", batch, "heads", total, "head", axis=0)

    def normalize(self, x: str, name: str) -> str:
        node = self.graph.node
        square = node("ReduceMean", node("Pow", x, "two"), axes=[-1], keepdims=1)
        scaled = node("Div", x, node("Sqrt", node("Add", square, "epsilon")))
        return node("Mul", scaled, self.graph.constant(name, self.weights[name]))

    def linear(self, x: str, name: str, heads: int | None = None) -> str:
        weight = self.weights[name] if heads is None else _split_halves(self.weights[name], heads)
        return self.graph.node("MatMul", x, self.graph.constant(name, weight.T))

    def rotate(self, x: str) -> str:
        node = self.graph.node
        low = node("Slice", x, "axis0", "half", "axis-1")
        high = node("Slice", x, "half", "head", "axis-1")
        turned = node("Concat", node("Neg", high), low, axis=-1)
        return node("Add", node("Mul", x, self.cos), node("Mul", turned, self.sin))

    def split(self, x: str, shape: str) -> str:
        return self.graph.node("Transpose", self.graph.node("Reshape", x, shape), perm=[0, 2, 1, 3])

    def repeat(self, x: str) -> str:
        """Each key-value head serves several query heads."""
        node = self.graph.node
        return node("Reshape", node("Expand", node("Unsqueeze", x, "axis2"), self.expanded), self.full)

    def attention(self, x: str, layer: int) -> str:
        node, name = self.graph.node, f"blk.{layer}"
        hidden = self.normalize(x, f"{name}.attn_norm.weight")
        query = self.rotate(self.split(self.linear(hidden, f"{name}.attn_q.weight", HEADS), "q_shape"))
        key = self.rotate(self.split(self.linear(hidden, f"{name}.attn_k.weight", KV_HEADS), "kv_shape"))
        value = self.split(self.linear(hidden, f"{name}.attn_v.weight"), "kv_shape")
        key = node("Concat", f"past_key_values.{layer}.key", key, output=f"present.{layer}.key", axis=2)
        value = node("Concat", f"past_key_values.{layer}.value", value, output=f"present.{layer}.value", axis=2)
        turned = node("Transpose", self.repeat(key), perm=[0, 1, 3, 2])
        scores = node("Where", self.mask, node("Mul", node("MatMul", query, turned), "scale"), "lowest")
        mixed = node("MatMul", node("Softmax", scores, axis=-1), self.repeat(value))
        merged = node("Reshape", node("Transpose", mixed, perm=[0, 2, 1, 3]), "merged_shape")
        return node("Add", x, self.linear(merged, f"{name}.attn_output.weight"))

    def feed_forward(self, x: str, layer: int) -> str:
        node, name = self.graph.node, f"blk.{layer}"
        hidden = self.normalize(x, f"{name}.ffn_norm.weight")
        gate, up = self.linear(hidden, f"{name}.ffn_gate.weight"), self.linear(hidden, f"{name}.ffn_up.weight")
        gated = node("Mul", node("Mul", gate, node("Sigmoid", gate)), up)
        return node("Add", x, self.linear(gated, f"{name}.ffn_down.weight"))


def _cache(kind: str, length: str) -> list[TensorInfo]:
    parts = [f"{kind}.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    return [(name, FLOAT, ["batch", KV_HEADS, length, HEAD]) for name in parts]


def build_smollm2(data: bytes) -> onnx.ModelProto:
    """Input ids [batch, seq] and 60 past tensors [batch, 3, past, 64]; outputs logits and the present tensors."""
    decoder = _Decoder(_read_gguf(data))
    node = decoder.graph.node
    x = node("Gather", "embedding", "input_ids", axis=0)
    for layer in range(LAYERS):
        x = decoder.feed_forward(decoder.attention(x, layer), layer)
    head = node("Transpose", "embedding", perm=[1, 0])
    node("MatMul", decoder.normalize(x, "output_norm.weight"), head, output="logits")
    ids: TensorInfo = ("input_ids", onnx.TensorProto.INT64, ["batch", "seq"])
    logits: TensorInfo = ("logits", FLOAT, ["batch", "seq", VOCABULARY])
    inputs = [ids, *_cache("past_key_values", "past")]
    return decoder.graph.model("smollm2_135m", inputs, [logits, *_cache("present", "total")], 17)
