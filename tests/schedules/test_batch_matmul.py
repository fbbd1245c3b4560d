"""Products of two computed matrices: batches, columns read in place or packed, every dim open."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import const, data, graph
from tvm import relax

O = relax.op  # noqa: E741
SHAPES = [
    # left, right
    ((1, 1), (1, 1)),
    ((13, 7), (7, 17)),
    ((2, 3, 5, 7), (2, 3, 7, 16)),
    ((3, 37, 11), (3, 11, 48)),
    ((2, 5, 3), (3, 19)),  # one right side for the whole batch
    ((4, 1, 8), (4, 8, 1)),
]


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def products(*pairs: relax.Expr) -> list[relax.Expr]:
    return [O.matmul(left, right) for left, right in zip(pairs[::2], pairs[1::2], strict=True)]


def test_known_shapes() -> None:
    kernels = Kernels(graph(products, *[shape for pair in SHAPES for shape in pair]))
    assert len(kernels.of("batch_matmul")) == len(SHAPES) and all(report.vectorized for report in kernels.reports)
    arrays = [data(*shape) for pair in SHAPES for shape in pair]
    for got, left, right in zip(kernels(*arrays), arrays[::2], arrays[1::2], strict=True):
        close(got, left @ right)


@pytest.mark.parametrize("target", LEVELS)
def test_open_dims_and_epilogues(target: str) -> None:
    """Attention's two products: scaled scores over all pairs, then a weighted sum with a fixed width."""
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")

    def attention(q: relax.Expr, k: relax.Expr, p: relax.Expr, v: relax.Expr, mask: relax.Expr) -> list[relax.Expr]:
        scores = O.multiply(O.matmul(q, k), const(np.float32(0.25)))
        return [O.add(scores, mask), O.nn.relu(O.matmul(p, v))]

    shapes = [("b", 2, "s", 8), ("b", 2, 8, "t"), ("b", 2, "s", "t"), ("b", 2, "t", 32), ("b", 2, "s", "t")]
    kernels = Kernels(graph(attention, *shapes), target)
    assert len(kernels.of("batch_matmul")) == 2 == len(kernels.reports)
    assert all(report.vectorized for report in kernels.reports)
    for b, s, t in [(1, 1, 1), (2, 13, 17), (1, 16, 16), (1, 3, 40), (3, 33, 1)]:
        sizes = {"b": b, "s": s, "t": t}
        q, k, p, v, mask = (data(*[sizes.get(dim, dim) for dim in shape]) for shape in shapes)
        scores, mixed = kernels(q, k, p, v, mask)
        close(scores, q @ k * np.float32(0.25) + mask)
        close(mixed, np.maximum(p @ v, 0))


def test_no_elements() -> None:
    kernels = Kernels(graph(products, ("b", "s", 4), ("b", 4, "t")))
    for b, s, t in [(0, 3, 5), (2, 0, 5), (2, 3, 0)]:
        (got,) = kernels(data(b, s, 4), data(b, 4, t))
        assert got.shape == (b, s, t)
    # A sum over nothing is 0.
    (got,) = Kernels(graph(products, (2, 3, "k"), (2, "k", 5)))(data(2, 3, 0), data(2, 0, 5))
    np.testing.assert_array_equal(got, np.zeros((2, 3, 5)))


def test_broadcast_batches_take_another_way() -> None:
    """Batch dims that differ have no template here; the answer is right all the same."""
    kernels = Kernels(graph(O.matmul, (2, 1, 5, 7), (3, 7, 17)))
    assert not kernels.of("batch_matmul")
    left, right = data(2, 1, 5, 7), data(3, 7, 17)
    close(kernels(left, right)[0], left @ right)
