"""Control flow, indexing, reductions and arithmetic as user code has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sample import DYNAMO, TORCHSCRIPT, Sample, Sizes, floats

ROWS = ({0: "rows"},)
SIZES: tuple[Sizes, ...] = ({"rows": 5}, {"rows": 1}, {"rows": 11})


class BySign(nn.Module):
    """``torch.cond``: two layers, of which the data chooses one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.left(x), lambda x: self.right(x).tanh(), (x,))


class ScriptedBySign(nn.Module):
    """The same in TorchScript: a branch of Python's, and shapes that differ by branch inside."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            y = self.left(x)
        else:
            y = self.right(x).tanh()
        return y


class ScriptedLoop(nn.Module):
    """A loop as often as there are rows, and one that stops when a norm is small."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(6)
        for row in range(x.shape[0]):
            total = self.layer(total + x[row]).tanh()
        rounds = torch.zeros(1, dtype=torch.int64)
        y = x
        while bool(y.abs().max() > 0.5):
            y = y * 0.7
            rounds = rounds + 1
        return total, y.sum() + rounds.to(y.dtype)


class Scanned(nn.Module):
    """A higher-order scan over the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.scan import scan

        def step(carried: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            carried = torch.tanh(carried @ self.weight + row)
            return carried, carried * 2

        last, rows = scan(step, torch.zeros(6), x)
        return rows + last


class Einsum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            torch.einsum("bij,bjk->bik", x, y),
            torch.einsum("bij,bkl->bjl", x, y),
            torch.einsum("bii->bi", x[:, :, :4]),
            torch.baddbmm(x[:, :, :3], x, y) + torch.tensordot(x, x, dims=([1, 2], [1, 2])).mean(),
        )


class Indexing(nn.Module):
    """Index tensors, boolean masks, negative steps, scatter, in-place writes."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        order = torch.tensor([3, 0, 2])
        written = x.clone()
        written[:, 1] = 7.0
        written[:, 2:4] += 1.0
        scattered = torch.zeros_like(x).scatter_add(1, torch.zeros_like(x, dtype=torch.int64), x)
        return (
            x[:, order],
            x[:, -2:],
            x[..., None].expand(-1, -1, 2),
            torch.where(x > 0, x, x.exp() - 1),
            x.masked_fill(x < -0.5, 0.25),
            written,
            scattered,
            x.index_select(1, order).tril(),
            functional.one_hot(x.argmax(1), 6),
            x.sort(1, descending=True)[0],
        )


class Chosen(nn.Module):
    """Sizes that the data decides: nonzero, boolean indexing."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.nonzero(x > 0), x[x > 0]


class Reductions(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        low, where = x.min(1)
        return (
            x.var(1), x.std(0, unbiased=False), x.norm(dim=1), x.logsumexp(1), x.prod(1), low, where,
            x.amax(0), (x > 0).any(1), (x > 9).all(), x.cumsum(0), x.mean(),
        )  # fmt: skip


class Arithmetic(nn.Module):
    """Integer and float arithmetic whose rules are torch's."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        whole = (x * 10).to(torch.int64)
        return (
            whole // 3, whole % 3, whole / 3, torch.remainder(x, 0.7), torch.fmod(x, 0.7), x.round(), x.clamp(min=-0.5),
            whole << 2, whole & 5, x.sign(), torch.atan2(x, x + 2), x.erf(),
            x.abs().pow(1.5), functional.softplus(x), functional.celu(x), functional.hardtanh(x),
            torch.maximum(x, x.T.mean() - x), torch.isnan(x / x), x.to(torch.float16) * 2,
        )  # fmt: skip


class Distances(nn.Module):
    """Cosine similarity, prelu, layer norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.prelu = nn.PReLU(6)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            functional.cosine_similarity(x[:, None], y[None], dim=-1),
            self.prelu(x), functional.layer_norm(x, (6,)), x @ torch.ones(6, 6) @ y.T,
        )  # fmt: skip


class Pairs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cdist(x, y), (x[:, None] - y).abs().sum(-1)


def two(sizes: Sizes) -> tuple[Tensor, ...]:
    return floats(sizes["rows"], 6), floats(sizes["others"], 6)


TWO = ({0: "rows"}, {0: "others"})
TWO_SIZES: tuple[Sizes, ...] = ({"rows": 5, "others": 3}, {"rows": 1, "others": 2})

SAMPLES = [
    Sample("by_sign", BySign, lambda s: (floats(s["rows"], 6),), ROWS, SIZES, (DYNAMO,)),
    Sample("scripted_by_sign", ScriptedBySign, lambda s: (floats(s["rows"], 6),), ROWS, SIZES, (TORCHSCRIPT,), True),
    Sample("scripted_loop", ScriptedLoop, lambda s: (floats(s["rows"], 6),), ROWS, SIZES, (TORCHSCRIPT,), True),
    Sample("scanned", Scanned, lambda s: (floats(s["rows"], 6),), ROWS, SIZES, (DYNAMO,)),
    Sample("einsum", Einsum, lambda s: (floats(s["rows"], 4, 5), floats(s["rows"], 5, 3)), ROWS * 2, SIZES),
    Sample("indexing", Indexing, lambda s: (floats(s["rows"], 6),), ROWS, SIZES),
    Sample("chosen", Chosen, lambda s: (floats(s["rows"], 6),), ROWS, SIZES),
    Sample("reductions", Reductions, lambda s: (floats(s["rows"], 6),), ROWS, SIZES),
    Sample("arithmetic", Arithmetic, lambda s: (floats(s["rows"], 6),), ROWS, SIZES),
    Sample("distances", Distances, two, TWO, TWO_SIZES),
    Sample("pairs", Pairs, two, TWO, TWO_SIZES, (TORCHSCRIPT,)),
]
