"""Attention from its pieces: what is found, what is left alone, and numbers against the pieces one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from kernel_cases import Kernels
from pass_graphs import Plain, const, data, emit, graph, operators
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.fuse_attention import fuse_attention

O = relax.op  # noqa: E741
CPU = targets.parse("cpu")[0]


def fused(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    mod, count = fuse_attention(mod, CPU)
    return relax.transform.DeadCodeElimination()(mod), count


def heads(x: relax.Expr, count: int) -> relax.Expr:
    """[B, S, H * D] to [B, H, S, D]"""
    batch, tokens, width = x.ty.shape.values
    return emit(O.permute_dims(emit(O.reshape(x, [batch, tokens, count, int(width) // count])), [0, 2, 1, 3]))


def joined(x: relax.Expr) -> relax.Expr:
    batch, count, tokens, width = x.ty.shape.values
    return O.reshape(emit(O.permute_dims(x, [0, 2, 1, 3])), [batch, tokens, int(count) * int(width)])


def encoder(q: relax.Expr, k: relax.Expr, v: relax.Expr, mask: relax.Expr) -> relax.Expr:
    """As PyTorch's exporter writes it: one transpose of the keys, a divisor, an additive mask."""
    tokens = k.ty.shape.values[1]
    keys = emit(O.permute_dims(emit(O.reshape(k, [q.ty.shape.values[0], tokens, 2, 8])), [0, 2, 3, 1]))
    scores = emit(O.divide(emit(O.matmul(heads(q, 2), keys)), const(np.float32(2.5))))
    shares = emit(O.nn.softmax(emit(O.add(scores, mask)), -1))
    return joined(emit(O.matmul(shares, heads(v, 2))))


def decoder(repeat_inside: bool) -> Any:
    """Four heads of queries on two of keys, repeated; a boolean mask by Where, what is hidden is the lowest number."""

    def build(q: relax.Expr, k: relax.Expr, v: relax.Expr, shown: relax.Expr) -> relax.Expr:
        def repeated(x: relax.Expr) -> relax.Expr:
            batch, count, tokens, width = x.ty.shape.values
            one = [batch, count, 1, tokens, width] if repeat_inside else [batch, 1, count, tokens, width]
            two = [batch, 2, 2, tokens, width]
            wide = emit(O.broadcast_to(emit(O.reshape(x, one)), relax.ShapeExpr(two)))
            return emit(O.reshape(wide, [batch, 4, tokens, width]))

        keys = emit(O.permute_dims(repeated(k), [0, 1, 3, 2]))
        scores = emit(O.multiply(emit(O.matmul(q, keys)), const(np.float32(0.25))))
        masked = emit(O.where(emit(O.astype(shown, "bool")), scores, const(np.float32(-3.4e38))))
        return emit(O.matmul(emit(O.nn.softmax(masked, -1)), repeated(v)))

    return build


def test_becomes_one_kernel_that_reads_tensors_as_they_lie() -> None:
    before = graph(encoder, ("b", "s", 16), ("b", "t", 16), ("b", "t", 16), ("b", 1, 1, "t"))
    after, count = fused(before)
    assert count == 1
    assert operators(after) == ["reshape", "reshape", "reshape", "call_tir attention", "reshape"]


@pytest.mark.parametrize("inside", [True, False])
def test_shared_keys_are_read_where_they_are(inside: bool) -> None:
    shapes = ("b", 4, "s", 16), ("b", 2, "t", 16), ("b", 2, "t", 16), ("s", "t")
    before = graph(decoder(inside), *shapes)
    after, count = fused(before)
    assert count == 1 and operators(after) == ["astype", "call_tir attention"]
    kernels, plain = Kernels(before), Plain(before)
    assert len(kernels.of("attention")) == 1
    for s, t in [(1, 1), (1, 37), (2, 16), (5, 7), (13, 29), (101, 131)]:
        feeds = data(1, 4, s, 16), data(1, 2, t, 16), data(1, 2, t, 16), np.float32(np.tri(s, t, t - s))
        np.testing.assert_allclose(kernels(*feeds)[0], plain(*feeds)[0], rtol=1e-4, atol=1e-5)


def test_open_dims_and_rows_that_are_hidden_or_no_numbers() -> None:
    before = graph(encoder, ("b", "s", 16), ("b", "t", 16), ("b", "t", 16), ("b", 1, 1, "t"))
    kernels, plain = Kernels(before), Plain(before)
    for b, s, t in [(1, 1, 1), (2, 1, 65), (3, 12, 16), (1, 13, 17), (2, 97, 33), (1, 193, 5), (0, 3, 3)]:
        feeds = [data(b, s, 16), data(b, t, 16), data(b, t, 16), data(b, 1, 1, t)]
        np.testing.assert_allclose(kernels(*feeds)[0], plain(*feeds)[0], rtol=1e-4, atol=1e-5)
    feeds = [data(1, 6, 16), data(1, 20, 16), data(1, 20, 16), data(1, 1, 1, 20)]
    for place, value in [(0, np.nan), (0, np.inf), (1, -np.inf), (2, np.nan), (3, -np.inf)]:
        changed = [array.copy() for array in feeds]
        changed[place].reshape(-1)[17] = value
        np.testing.assert_allclose(kernels(*changed)[0], plain(*changed)[0], rtol=1e-4, atol=1e-5)
    feeds[3][:] = -np.inf
    assert np.isnan(kernels(*feeds)[0]).all() and np.isnan(plain(*feeds)[0]).all()


def test_of_no_keys_comes_nothing() -> None:
    def bare(q: relax.Expr, k: relax.Expr, v: relax.Expr) -> relax.Expr:
        scores = emit(O.matmul(q, emit(O.permute_dims(k, [0, 2, 1]))))
        return O.matmul(emit(O.nn.softmax(scores, -1)), v)

    kernels = Kernels(graph(bare, ("b", "s", 8), ("b", "t", 8), ("b", "t", 8)))
    assert len(kernels.of("attention")) == 1
    assert not kernels(data(2, 5, 8), data(2, 0, 8), data(2, 0, 8))[0].any()


@pytest.mark.parametrize("width, value_width", [(8, 24), (20, 1), (64, 64), (33, 160)])
def test_any_width_of_a_head_with_a_cap_and_shares_that_are_no_numbers_replaced(width: int, value_width: int) -> None:
    def build(q: relax.Expr, k: relax.Expr, v: relax.Expr) -> relax.Expr:
        scores = emit(O.matmul(q, emit(O.permute_dims(k, [0, 1, 3, 2]))))
        capped = emit(O.multiply(emit(O.tanh(emit(O.divide(scores, const(np.float32(30)))))), const(np.float32(30))))
        shares = emit(O.nn.softmax(capped, -1))
        numbers = emit(O.where(emit(O.isnan(shares)), const(np.float32(0)), shares))
        return O.matmul(numbers, v)

    before = graph(build, (1, 2, 7, width), (1, 2, 19, width), (1, 2, 19, value_width))
    kernels, plain = Kernels(before), Plain(before)
    assert len(kernels.of("attention")) == 1
    feeds = [data(1, 2, 7, width), data(1, 2, 19, width), data(1, 2, 19, value_width)]
    np.testing.assert_allclose(kernels(*feeds)[0], plain(*feeds)[0], rtol=1e-4, atol=1e-5)
    feeds[0][0, 0, 3] = np.nan
    np.testing.assert_allclose(kernels(*feeds)[0], plain(*feeds)[0], rtol=1e-4, atol=1e-5)


def test_leaves_alone_what_is_read_elsewhere_or_has_another_form() -> None:
    shape = (1, 2, 7, 16)

    def shares(q: relax.Expr, k: relax.Expr, axis: int = -1) -> relax.Expr:
        return emit(O.nn.softmax(emit(O.matmul(q, emit(O.permute_dims(k, [0, 1, 3, 2])))), axis))

    def read_twice(q: relax.Expr, k: relax.Expr, v: relax.Expr) -> list[relax.Expr]:
        weights = shares(q, k)
        return [O.matmul(weights, v), O.add(weights, weights)]

    def other_axis(q: relax.Expr, k: relax.Expr, v: relax.Expr) -> relax.Expr:
        return O.matmul(shares(q, k, 2), v)

    def summed(q: relax.Expr, k: relax.Expr, v: relax.Expr) -> relax.Expr:
        scores = emit(O.matmul(q, emit(O.permute_dims(k, [0, 1, 3, 2]))))
        return O.matmul(emit(O.nn.softmax(emit(O.cumsum(scores, 3)), -1)), v)

    for build in (read_twice, other_axis, summed):
        before = graph(build, shape, shape, shape)
        after, count = fuse_attention(before, CPU)
        assert count == 0 and operators(after) == operators(before)


@pytest.mark.parametrize("target", ["cpu:x86-64-v1", "cpu:x86-64-v3"])
def test_other_vectors(target: str) -> None:
    before = graph(encoder, (1, 25, 16), (1, 25, 16), (1, 25, 16), (1, 1, 1, 25))
    feeds = [data(1, 25, 16), data(1, 25, 16), data(1, 25, 16), data(1, 1, 1, 25)]
    np.testing.assert_allclose(Kernels(before, target)(*feeds)[0], Plain(before)(*feeds)[0], rtol=1e-4, atol=1e-5)
