"""Patterns of well-known architectures that make uncommon graphs: windows, relative positions, beams, spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sample import DYNAMO, TORCHSCRIPT, Sample, Sizes, floats, tokens
from .sequence import TEXT, TEXTS
from .vision import BATCH, BATCHES, PICTURE, PICTURES, picture

LENGTHS: tuple[Sizes, ...] = ({"batch": 2, "length": 8}, {"batch": 1, "length": 5}, {"batch": 3, "length": 12})


class Windows(nn.Module):
    """Swin's shifted windows: padding to a multiple of the window, partition, attention, reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3, 24)
        self.qkv = nn.Linear(24, 72)
        self.bias = nn.Parameter(torch.randn(2, 16, 16) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x.permute(0, 2, 3, 1))
        batch, height, width, _ = x.shape
        x = functional.pad(x, (0, 0, 0, -width % 4, 0, -height % 4))
        rows, columns = (height + 3) // 4, (width + 3) // 4
        x = torch.roll(x, (-2, -2), (1, 2))
        x = x.view(batch, rows, 4, columns, 4, 24).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 24)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 2, 12).permute(2, 0, 3, 1, 4).unbind(0)
        x = ((q @ k.transpose(-2, -1)) / math.sqrt(12) + self.bias).softmax(-1) @ v
        x = x.transpose(1, 2).reshape(batch, rows, columns, 4, 4, 24).permute(0, 1, 3, 2, 4, 5)
        x = torch.roll(x.reshape(batch, rows * 4, columns * 4, 24), (2, 2), (1, 2))
        return x[:, :height, :width].contiguous()


class Patches(nn.Module):
    """ViT with a class token and positions that are interpolated to the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 16, 5, 5))
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + functional.interpolate(self.positions, size=x.shape[-2:], mode="bicubic", align_corners=False)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1)
        return self.norm(x)[:, 0]


class RelativeBias(nn.Module):
    """T5's buckets of distances, logarithmic past a few, as a table of biases."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.embed = nn.Embedding(16, 2), nn.Embedding(50, 16)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        places = torch.arange(length)
        distance = places[None, :] - places[:, None]
        bucket = (distance > 0).to(torch.int64) * 8
        distance = distance.abs()
        large = 4 + (torch.log(distance.float() / 4) / math.log(32 / 4) * 4).to(torch.int64)
        bucket = bucket + torch.where(distance < 4, distance, large.clamp(max=7))
        x = self.embed(ids).view(ids.shape[0], length, 2, 8).transpose(1, 2)
        return (x @ x.transpose(2, 3) + self.table(bucket).permute(2, 0, 1)[None]).softmax(-1) @ x


class Shifted(nn.Module):
    """Transformer-XL's relative shift and a disentangled gather: as_strided in disguise."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, width = x.shape
        scores = x @ torch.linspace(-1, 1, width).outer(torch.linspace(0, 1, 7)).to(x.dtype)
        padded = functional.pad(scores, (1, 0)).view(batch, 8, length)[:, 1:].reshape(batch, length, 7)
        index = torch.arange(length)[None, :, None].expand(batch, length, width) % 3
        return padded, x.gather(1, index.clamp(max=length - 1))


class Packed(nn.Module):
    """LSTM over packed sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 8, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        out, _ = self.layer(packed)
        return nn.utils.rnn.pad_packed_sequence(out, batch_first=True)[0]


def lengths_too(sizes: Sizes) -> tuple[Tensor, ...]:
    length = sizes["length"]
    return floats(sizes["batch"], length, 6), torch.arange(length, length - sizes["batch"], -1)


class Greedy(nn.Module):
    """A scripted decoder that appends to a list until it has said enough: Loop, If and a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(20, 8), nn.Linear(16, 8), nn.Linear(8, 20)

    def forward(self, state: Tensor) -> Tensor:
        token = torch.zeros(state.shape[0], dtype=torch.int64)
        said: list[Tensor] = []
        step = 0
        while step < 6:
            state = torch.tanh(self.cell(torch.cat([self.embed(token), state], 1)))
            token = self.head(state).argmax(1)
            if step % 2 == 0:
                said.append(token)
            else:
                said.append(token * 2)
            step += 1
        return torch.stack(said, 1)


class Spectrum(nn.Module):
    """A mel-like front end over torch.stft."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(32))
        self.register_buffer("bank", torch.rand(17, 6))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, 32, 16, 32, self.window, center=True, return_complex=False)
        return ((spectrum**2).sum(-1).transpose(1, 2) @ self.bank).clamp(min=1e-5).log()


class Experts(nn.Module):
    """A mixture of experts: the two best of four, weighted; each token through all, masked."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 4)
        self.experts = nn.Parameter(torch.randn(4, 12, 12) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        spread = torch.zeros_like(x[..., :4]).scatter(-1, chosen, weights / weights.sum(-1, keepdim=True))
        return torch.einsum("btd,edf,bte->btf", x, self.experts, spread)


class StateSpace(nn.Module):
    """A diagonal state space model as cumulative sums and a causal depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 4, padding=3, groups=8)
        self.decay = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        times = torch.arange(x.shape[1]).to(x.dtype)[:, None] * self.decay
        return (y * times.exp()).cumsum(1) * (-times).exp()


class Half(nn.Module):
    """float16 weights with float32 normalization, as checkpoints of large models have them."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16).to(dtype), nn.Linear(16, 12).to(dtype)
        self.norm = nn.LayerNorm(12)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.gelu(self.first(x.to(self.dtype)), approximate="tanh"))
        return self.norm(y.float() + x)


class Quantizer(nn.Module):
    """A codec's residual vector quantization: nearest codes by distance, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(2, 10, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rest, found = x, []
        for codes in self.codes:
            distance = (rest**2).sum(-1, keepdim=True) - 2 * rest @ codes.t() + (codes**2).sum(-1)
            nearest = distance.argmin(-1)
            rest = rest - functional.embedding(nearest, codes)
            found.append(nearest)
        return torch.stack(found, -1), x - rest


def rows(sizes: Sizes) -> tuple[Tensor, ...]:
    return (floats(sizes["batch"], 12),)


SAMPLES = [
    Sample("windows", Windows, picture, PICTURE, PICTURES),
    Sample("patches", Patches, picture, PICTURE, PICTURES),
    Sample("relative_bias", RelativeBias, lambda s: (tokens(s["batch"], s["length"]),), TEXT, TEXTS),
    Sample("shifted", Shifted, lambda s: (floats(s["batch"], s["length"], 6),), TEXT, LENGTHS),
    Sample("packed", Packed, lengths_too, (*TEXT, {0: "batch"}), LENGTHS, (TORCHSCRIPT,)),
    Sample("greedy", Greedy, lambda s: (floats(s["batch"], 8),), BATCH, BATCHES, (TORCHSCRIPT,), True),
    Sample(
        "spectrum", Spectrum, lambda s: (floats(s["batch"], s["samples"]),), ({0: "batch", 1: "samples"},),
        ({"batch": 2, "samples": 200}, {"batch": 1, "samples": 131}),
    ),
    Sample("experts", Experts, lambda s: (floats(s["batch"], s["length"], 12),), TEXT, TEXTS),
    Sample("state_space", StateSpace, lambda s: (floats(s["batch"], s["length"], 8),), TEXT, TEXTS),
    Sample("half", lambda: Half(torch.float16), rows, BATCH, BATCHES, slack=20),
    Sample("bfloat", lambda: Half(torch.bfloat16), rows, BATCH, BATCHES, (DYNAMO,), slack=200),
    Sample("quantizer", Quantizer, lambda s: (floats(s["batch"], s["length"], 6),), TEXT, TEXTS),
]
