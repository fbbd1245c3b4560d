"""Transformers, recurrent networks, attention, decoders with a key-value cache."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sample import Sample, Sizes, floats, tokens

TEXT = ({0: "batch", 1: "length"},)
TEXTS: tuple[Sizes, ...] = ({"batch": 2, "length": 7}, {"batch": 1, "length": 1}, {"batch": 3, "length": 13})


class Encoder(nn.Module):
    """Embedding, positions by the sequence's length, torch's own encoder layers, mean over what is no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32, padding_idx=0)
        self.positions = nn.Embedding(64, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        x = self.layers(x, src_key_padding_mask=mask == 0)
        weights = mask.unsqueeze(-1).to(x.dtype)
        return functional.normalize((x * weights).sum(1) / weights.sum(1).clamp(min=1e-9), p=2, dim=1)


def text_and_mask(sizes: Sizes) -> tuple[Tensor, ...]:
    ids = tokens(sizes["batch"], sizes["length"])
    mask = torch.ones_like(ids)
    mask[0, max(1, sizes["length"] - 2) :] = 0
    return ids, mask


class Attention(nn.Module):
    """``scaled_dot_product_attention``: causal, and with a mask of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(24, 72)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, width = x.shape
        q, k, v = self.project(x).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4).unbind(0)
        bias = torch.arange(length).unsqueeze(0).expand(length, length).to(x.dtype) * -0.1
        causal = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        biased = functional.scaled_dot_product_attention(q, k, v, bias)
        return causal.transpose(1, 2).reshape(batch, length, width), biased


class MultiHead(nn.Module):
    """torch's MultiheadAttention over a memory of another length, with its averaged weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 4, batch_first=True, add_bias_kv=True)

    def forward(self, query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(query, memory, memory)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.layers = kind(12, 16, num_layers=2, bidirectional=True, batch_first=True, **options)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, state = self.layers(x)
        return self.head(out), state[0] if isinstance(state, tuple) else state


class Cells(nn.Module):
    """A loop over LSTMCell and GRUCell, unrolled by either exporter."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(6, 8), nn.GRUCell(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 8)
        c, g = h, h
        for step in range(4):
            h, c = self.lstm(x[:, step], (h, c))
            g = self.gru(h, g)
        return g


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Decoder(nn.Module):
    """One step of a Llama-like decoder: grouped queries, RoPE, SwiGLU, cache in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.q, self.k, self.v = nn.Linear(32, 32, False), nn.Linear(32, 16, False), nn.Linear(32, 16, False)
        self.out, self.gate, self.up = nn.Linear(32, 32, False), nn.Linear(32, 48, False), nn.Linear(32, 48, False)
        self.down, self.head = nn.Linear(48, 32, False), nn.Linear(32, 50, False)
        self.norms = nn.ModuleList([RMSNorm(32), RMSNorm(32), RMSNorm(32)])
        self.register_buffer("frequencies", 1.0 / 10000 ** (torch.arange(0, 8, 2).float() / 8))

    def forward(self, ids: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length = ids.shape
        start = past_k.shape[2]
        x = self.embed(ids)
        y = self.norms[0](x)
        angles = torch.outer(torch.arange(start, start + length).float(), self.frequencies)
        angles = torch.cat([angles, angles], -1)
        cos, sin = angles.cos(), angles.sin()
        q = rotate(self.q(y).view(batch, length, 4, 8).transpose(1, 2), cos, sin)
        k = torch.cat([past_k, rotate(self.k(y).view(batch, length, 2, 8).transpose(1, 2), cos, sin)], 2)
        v = torch.cat([past_v, self.v(y).view(batch, length, 2, 8).transpose(1, 2)], 2)
        mask = torch.full((length, start + length), float("-inf")).triu(start + 1)
        wide_k = k[:, :, None].expand(batch, 2, 2, start + length, 8).reshape(batch, 4, start + length, 8)
        wide_v = v[:, :, None].expand(batch, 2, 2, start + length, 8).reshape(batch, 4, start + length, 8)
        weights = (q @ wide_k.transpose(2, 3) / math.sqrt(8) + mask).softmax(-1)
        x = x + self.out((weights @ wide_v).transpose(1, 2).reshape(batch, length, 32))
        y = self.norms[1](x)
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return self.head(self.norms[2](x)), k, v


def step(sizes: Sizes) -> tuple[Tensor, ...]:
    batch, past = sizes["batch"], sizes["past"]
    return tokens(batch, sizes["length"]), floats(batch, 2, past, 8), floats(batch, 2, past, 8)


class Convolved(nn.Module):
    """A wav2vec-like front end: 1-D convolutions, GLU, cumulative sums, weight normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 16, 10, 5))
        self.second = nn.Conv1d(16, 32, 3, 2, dilation=2)
        self.up = nn.ConvTranspose1d(16, 1, 4, 2, 1)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.glu(self.second(functional.mish(self.first(x))), 1)
        return self.up(self.norm(y.transpose(1, 2)).transpose(1, 2)).cumsum(-1)


SAMPLES = [
    Sample("encoder", Encoder, text_and_mask, TEXT * 2, TEXTS),
    Sample("attention", Attention, lambda s: (floats(s["batch"], s["length"], 24),), TEXT, TEXTS),
    Sample(
        "multi_head",
        MultiHead,
        lambda s: (floats(s["batch"], s["length"], 24), floats(s["batch"], s["memory"], 24)),
        ({0: "batch", 1: "length"}, {0: "batch", 1: "memory"}),
        ({"batch": 2, "length": 7, "memory": 5}, {"batch": 1, "length": 1, "memory": 3}),
    ),
    Sample("lstm", lambda: Recurrent(nn.LSTM), lambda s: (floats(s["batch"], s["length"], 12),), TEXT, TEXTS),
    Sample("gru", lambda: Recurrent(nn.GRU), lambda s: (floats(s["batch"], s["length"], 12),), TEXT, TEXTS),
    Sample("rnn", lambda: Recurrent(nn.RNN), lambda s: (floats(s["batch"], s["length"], 12),), TEXT, TEXTS),
    Sample("cells", Cells, lambda s: (floats(s["batch"], 4, 6),), ({0: "batch"},), ({"batch": 2}, {"batch": 1})),
    Sample(
        "decoder",
        Decoder,
        step,
        ({0: "batch", 1: "length"}, {0: "batch", 2: "past"}, {0: "batch", 2: "past"}),
        tuple(dict(zip(("batch", "length", "past"), sizes)) for sizes in ((2, 3, 5), (1, 1, 9), (1, 4, 1))),
    ),
    Sample(
        "convolved",
        Convolved,
        lambda s: (floats(s["batch"], 1, s["samples"]),),
        ({0: "batch", 2: "samples"},),
        ({"batch": 2, "samples": 160}, {"batch": 1, "samples": 97}),
    ),
]
