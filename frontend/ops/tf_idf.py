"""TfIdfVectorizer over integers: https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html.

Counts n-grams of a pool in rows, their items next to each other or up to ``max_skip_count`` items apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import Value, tensor_dtype, tensor_shape
from .cast import convert_dtype
from .elementwise import is_integer


@dataclass(frozen=True)
class Pool:
    """The n-grams of the lengths asked for: ``items`` strung together, where each begins, its length and its output."""

    items: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    outputs: np.ndarray


@converter("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, mode = inputs[0], node.attr("mode")
    dims, indexes = tensor_shape(data), node.attr("ngram_indexes")
    if node.attr("pool_strings") or not is_integer(tensor_dtype(data)):
        raise ConversionError("n-grams of strings are not supported")
    if mode not in ("TF", "IDF", "TFIDF") or len(dims) not in (1, 2):
        raise ConversionError(f"mode {mode!r} for a tensor of rank {len(dims)}")
    width, pool = max(indexes) + 1, _pool(node)
    weights = _weights(node.attr("weights"), indexes, width)
    shape = [*dims[:-1], width]
    if never_has_elements(shape) or never_has_elements(dims) or not len(pool.starts):
        return zeros(ctx, shape, "float32")
    rows = ctx.reshape(convert_dtype(ctx, data, "int64"), [dims[0] if len(dims) == 2 else 1, dims[-1]])
    most = node.attr("max_skip_count") + 1

    def kernel(x: te.Tensor, items: te.Tensor, starts: te.Tensor, lengths: te.Tensor, outputs: te.Tensor) -> te.Tensor:
        return _count(x, [items, starts, lengths, outputs], width, most)

    counts = ctx.te(kernel, rows, pool.items, pool.starts, pool.lengths, pool.outputs, name="count_ngrams")

    def weigh(counts: te.Tensor, weights: te.Tensor) -> te.Tensor:
        def element(i: tirx.Var, j: tirx.Var) -> tirx.PrimExpr:
            count, one = counts(i, j), tirx.const(1, "float32")
            count = tirx.min(count, one) if mode == "IDF" else count
            return count if mode == "TF" else count * weights(j)

        return te.compute(counts.shape, element, name="weigh_ngrams")

    return ctx.reshape(ctx.te(weigh, counts, weights, name="weigh_ngrams"), shape)


def _weights(given: Sequence[float] | None, indexes: Sequence[int], width: int) -> np.ndarray:
    """The weight of each output: weights are given in the order of the pool."""
    weights = np.ones(width, np.float32)
    if given is not None:
        if len(given) != len(indexes):
            raise ConversionError(f"{len(given)} weights for {len(indexes)} n-grams")
        weights[list(indexes)] = given
    return weights


def _pool(node: Node) -> Pool:
    items, begins = np.array(node.attr("pool_int64s"), np.int64), list(node.attr("ngram_counts"))
    indexes = node.attr("ngram_indexes")
    starts, lengths, outputs, number = [], [], [], 0
    for length, (begin, end) in enumerate(zip(begins, [*begins[1:], len(items)], strict=True), start=1):
        if begin > end or (end - begin) % length:
            raise ConversionError(f"items {begin} to {end} of the pool are no n-grams of {length}")
        for start in range(begin, end, length):
            if number >= len(indexes) or indexes[number] < 0:
                raise ConversionError(f"ngram_indexes has no output for n-gram {number}")
            if node.attr("min_gram_length") <= length <= node.attr("max_gram_length"):
                starts.append(start)
                lengths.append(length)
                outputs.append(indexes[number])
            number += 1
    return Pool(items, *(np.array(values, np.int64) for values in (starts, lengths, outputs)))


def _count(x: te.Tensor, tables: Sequence[te.Tensor], width: int, most: int) -> te.Tensor:
    """[N, C] to the counts [N, width]; unigrams, which skips don't change, are counted once."""
    rows, size, grams = prim(x.shape[0]), prim(x.shape[1]), prim(tables[1].shape[0])

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        data, items, starts, lengths, outputs = (T.buffer_proxy(buffer) for buffer in ins)
        out = T.buffer_proxy(outs[0])
        with IRBuilder() as builder, T.parallel(prim(0), rows) as row:
            same = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
            with T.serial(prim(0), prim(width)) as j:
                out[row * width + j] = tirx.const(0, "float32")
            with T.serial(prim(0), grams) as gram:
                start, length = T.bind(starts[gram]), T.bind(lengths[gram])
                goal = T.bind(row * width + outputs[gram])
                steps = tirx.Select(tirx.EQ(length, prim(1)), prim(1), prim(most))
                with T.serial(prim(1), steps + 1) as step:
                    room = T.bind(tirx.max(size - (length - 1) * step, prim(0)))
                    with T.serial(prim(0), room) as at:
                        same[0] = prim(0)
                        with T.While(
                            tirx.if_then_else(
                                same[0] < length,
                                tirx.EQ(data[row * size + at + same[0] * step], items[start + same[0]]),
                                tirx.const(False, "bool"),
                            )
                        ):
                            same[0] = same[0] + 1
                        with T.If(tirx.EQ(same[0], length)), T.Then():
                            out[goal] = out[goal] + tirx.const(1, "float32")
        return builder.get()

    shape = prim_list([x.shape[0], width])
    return te.extern([shape], [x, *tables], body, dtype=["float32"], name="count_ngrams")
