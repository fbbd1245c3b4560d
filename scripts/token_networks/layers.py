"""Layers of networks over sequences [batch, tokens, width]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from conv_networks.layers import Layers

BATCH, TOKENS = "batch", "tokens"
Dims = Sequence[int | str]


class Tokens(Layers):
    """A network in the making; ``inputs`` and ``outputs`` are declared as it grows."""

    def __init__(self, name: str, opset: int = 17):
        super().__init__(name, 0, 1)
        self.channels = defaultdict(int)
        self.opset = opset
        self.inputs: list[tuple[str, Any, Dims]] = []
        self.outputs: list[str] = []

    def input(self, name: str, kind: Any, *dims: int | str) -> str:
        """An input of ONNX's element type ``kind``; its open dims are named."""
        self.inputs.append((name, kind, dims))
        return name

    def floats_input(self, name: str, *dims: int | str) -> str:
        return self.input(name, onnx.TensorProto.FLOAT, *dims)

    def scalar(self, value: float) -> str:
        return self.constant(np.float32(value))

    def reshape(self, x: str, *dims: int) -> str:
        """0 keeps a dim, -1 is what is left."""
        return self.node("Reshape", x, self.ints(*dims))

    def transpose(self, x: str, *order: int) -> str:
        return self.node("Transpose", x, perm=list(order))

    def slice(self, x: str, start: int, end: int, axis: int) -> str:
        return self.node("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def dim(self, x: str, axis: int) -> str:
        """One size of ``x``, a vector of one element."""
        return self.node("Gather", self.node("Shape", x), self.ints(axis), axis=0)

    def embedding(self, ids: str, words: int, width: int) -> str:
        return self.node("Gather", self.random(words, width, scale=0.5), ids, axis=0)

    def norm(self, x: str, width: int) -> str:
        """LayerNormalization in the pieces of opset 16 and before."""
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[-1], keepdims=1))
        variance = self.node("ReduceMean", self.node("Pow", centred, self.scalar(2)), axes=[-1], keepdims=1)
        y = self.node("Div", centred, self.node("Sqrt", self.node("Add", variance, self.scalar(1e-5))))
        return self.node("Add", self.node("Mul", y, self.near_one(width)), self.random(width, scale=0.1))

    def rms_norm(self, x: str, width: int) -> str:
        """As LLaMA's and T5's exports have it."""
        mean = self.node("ReduceMean", self.node("Pow", x, self.scalar(2)), axes=[-1], keepdims=1)
        root = self.node("Sqrt", self.node("Add", mean, self.scalar(1e-6)))
        y = self.node("Mul", x, self.node("Div", self.scalar(1), root))
        return self.node("Mul", self.near_one(width), y)

    def near_one(self, width: int) -> str:
        return self.constant((1 + 0.1 * self._random.standard_normal(width)).astype(np.float32))

    def tanh_gelu(self, x: str) -> str:
        """GPT-2's, in pieces."""
        cube = self.node("Mul", self.node("Pow", x, self.scalar(3)), self.scalar(0.044715))
        inner = self.node("Mul", self.node("Add", x, cube), self.scalar((2 / np.pi) ** 0.5))
        half = self.node("Mul", x, self.scalar(0.5))
        return self.node("Mul", half, self.node("Add", self.node("Tanh", inner), self.scalar(1)))

    def bare(self, x: str, inputs: int, outputs: int) -> str:
        """A linear layer without a bias."""
        return self.node("MatMul", x, self.random(inputs, outputs, scale=inputs**-0.5))

    def heads(self, x: str, count: int, size: int) -> str:
        """[B, T, count * size] to [B, count, T, size]."""
        return self.transpose(self.reshape(x, 0, -1, count, size), 0, 2, 1, 3)

    def attend(self, q: str, k: str, v: str, scale: float | None, mask: str = "", merged: int = 0) -> str:
        """softmax(q kᵀ * scale + mask) v of heads, back in [B, T, ``merged``]."""
        scores = self.node("MatMul", q, self.transpose(k, 0, 1, 3, 2))
        if scale is not None:
            scores = self.node("Div", scores, self.scalar(1 / scale))
        if mask:
            scores = self.node("Add", scores, mask)
        y = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        return self.reshape(self.transpose(y, 0, 2, 1, 3), 0, -1, merged)

    def attention(self, x: str, width: int, count: int, mask: str = "", memory: str = "") -> str:
        """Multi-head attention on ``x``, or on ``memory``, with four linear layers."""
        keys, size = memory or x, width // count
        q, k, v = (self.heads(self.linear(t, width, width), count, size) for t in (x, keys, keys))
        return self.linear(self.attend(q, k, v, size**-0.5, mask, width), width, width)

    def feed_forward(self, x: str, width: int, act: str = "gelu", times: int = 4) -> str:
        return self.linear(self.linear(x, width, times * width, act), times * width, width)

    def post_norm_block(self, x: str, width: int, count: int, mask: str = "", act: str = "gelu") -> str:
        """BERT's."""
        x = self.norm(self.node("Add", x, self.attention(x, width, count, mask)), width)
        return self.norm(self.node("Add", x, self.feed_forward(x, width, act)), width)

    def pre_norm_block(self, x: str, width: int, count: int, mask: str = "") -> str:
        """ViT's, by LayerNormalization itself."""
        x = self.node("Add", x, self.attention(self.layer_norm(x, width), width, count, mask))
        return self.node("Add", x, self.feed_forward(self.layer_norm(x, width), width))

    def padding_mask(self, mask: str) -> str:
        """[B, T] of ones and zeros to what is added to scores [B, 1, 1, T]."""
        wide = self.node("Unsqueeze", self.node("Unsqueeze", mask, self.ints(1)), self.ints(2))
        lacking = self.node("Sub", self.scalar(1), self.node("Cast", wide, to=onnx.TensorProto.FLOAT))
        return self.node("Mul", lacking, self.scalar(-10000))

    def finished(self, *outputs: str) -> onnx.ModelProto:
        """The checked model with shapes of outputs inferred."""
        infos: list[Any] = [(output, onnx.TensorProto.FLOAT, []) for output in outputs]
        model = self.graph.model(self.name, self.inputs, infos, self.opset)
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        del model.graph.value_info[:]
        return model
