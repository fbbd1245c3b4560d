"""All networks, and the sizes that they are measured at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from . import decoders, encoders, modern, speech
from .layers import Tokens

FIXED, OPEN = "fixed", "open"


@dataclass(frozen=True)
class TokenNetwork:
    """``build`` adds inputs and layers and names the output; ``sizes`` are those of the open dims."""

    build: Callable[[Tokens], str]
    sizes: Mapping[str, int] = field(default_factory=lambda: {"batch": 1, "tokens": 128})
    opset: int = 17
    kinds: tuple[str, ...] = (FIXED, OPEN)

    @property
    def name(self) -> str:
        return self.build.__name__

    def model(self, kind: str = FIXED) -> onnx.ModelProto:
        """The model; FIXED writes ``sizes`` into its inputs."""
        net = Tokens(self.name, self.opset)
        output = self.build(net)
        if kind == FIXED:
            net.inputs = [(name, of, [self._size(dim) for dim in dims]) for name, of, dims in net.inputs]
        return net.finished(output, *net.outputs)

    def feeds(self) -> dict[str, np.ndarray[Any, Any]]:
        """Words below 1000, masks of ones with a short tail of zeros, and normally distributed numbers."""
        net, random = Tokens(self.name, self.opset), np.random.default_rng(0)
        self.build(net)
        found: dict[str, np.ndarray[Any, Any]] = {}
        for name, kind, dims in net.inputs:
            shape = [self._size(dim) for dim in dims]
            if name == "mask":
                found[name] = (np.arange(shape[1]) < shape[1] - 5).astype(np.int64) * np.ones(shape, np.int64)
            elif kind == onnx.TensorProto.INT64:
                found[name] = random.integers(0, 1000, shape)
            else:
                found[name] = random.standard_normal(shape, np.float32)
        return found

    def _size(self, dim: int | str) -> int:
        return dim if isinstance(dim, int) else self.sizes[dim]


def _sizes(**sizes: int) -> Mapping[str, int]:
    return {"batch": 1, **sizes}


NETWORKS: dict[str, TokenNetwork] = {
    network.name: network
    for network in (
        TokenNetwork(encoders.bert),
        TokenNetwork(encoders.distilbert, _sizes(tokens=61)),
        TokenNetwork(encoders.t5_encoder),
        TokenNetwork(encoders.vit),
        TokenNetwork(encoders.swin),
        TokenNetwork(encoders.mixer),
        TokenNetwork(encoders.retrieval, _sizes(tokens=32)),
        TokenNetwork(encoders.small_mlp),
        TokenNetwork(decoders.gpt2, _sizes(tokens=1, past=63)),
        TokenNetwork(decoders.llama, _sizes(tokens=96)),
        TokenNetwork(decoders.cross_decoder, _sizes(past=31)),
        TokenNetwork(speech.whisper_encoder),
        TokenNetwork(speech.wav2vec_encoder, _sizes(tokens=149)),
        TokenNetwork(speech.conformer, _sizes(tokens=200)),
        TokenNetwork(speech.bilstm, _sizes(tokens=100)),
        TokenNetwork(speech.gru_stack, _sizes(tokens=50)),
        TokenNetwork(speech.keyword, _sizes(tokens=98)),
        TokenNetwork(modern.opset_23, opset=23),
    )
}
