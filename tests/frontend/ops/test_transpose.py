"""Transpose, DepthToSpace and SpaceToDepth against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import case, check_cases

from onnxkiln.errors import ConversionError

X = np.arange(2 * 8 * 3 * 5, dtype=np.float32).reshape(2, 8, 3, 5)
Y = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_moves(dims):
    cases = [
        case("Transpose", X, dims=dims),
        case("Transpose", X, perm=[1, 3, 0, 2], dims=dims),
        case("Transpose", X[0, 0, 0], dims=dims),
        case("Transpose", np.float32(3), dims=dims),
        case("Transpose", np.zeros((0, 3), np.int64), perm=[1, 0], dims=dims),
        case("Transpose", X > 3, perm=[0, 2, 3, 1], dims=dims),
        case("DepthToSpace", X, blocksize=2, dims=dims),
        case("DepthToSpace", X, blocksize=2, mode="CRD", dims=dims),
        case("SpaceToDepth", Y, blocksize=2, dims=dims),
        case("DepthToSpace", X[:0], blocksize=2, dims=dims),
        case("SpaceToDepth", Y.astype(np.float16), blocksize=1, dims=dims),
    ]
    check_cases(cases)


def test_the_two_orders_of_channels_undo_each_other():
    """The evaluator knows SpaceToDepth's mode from opset 28 on."""
    check_cases([case("SpaceToDepth", Y, blocksize=2, mode=mode) for mode in ("DCR", "CRD")], opset=28)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Transpose", X, perm=[0, 1, 2, 2], expected=X), "no permutation of 4 axes"),
        (case("DepthToSpace", X, blocksize=3, expected=X), "8 channels are no multiple of 9"),
        (case("SpaceToDepth", X, blocksize=2, expected=X), "3 rows are no multiple of 2"),
        (case("SpaceToDepth", X[0], blocksize=2, expected=X), "rank 4"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
