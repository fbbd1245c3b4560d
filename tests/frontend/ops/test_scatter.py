"""ScatterElements and ScatterND against the reference evaluator; no index can write out of bounds."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(7)
X = RNG.standard_normal((4, 3, 5)).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open", "shared"])
def test_scatter_elements(dims):
    cases = []
    for axis, shape in [(0, (2, 3, 5)), (1, (4, 2, 3)), (-1, (2, 3, 4)), (2, (4, 3, 5)), (0, (0, 3, 5))]:
        size = X.shape[axis]
        # Places along the axis must differ unless a reduction says what repeated ones mean.
        order = np.argsort(RNG.random((*shape[: axis % 3], size, *shape[axis % 3 + 1 :])), axis % 3)
        indices = np.take(order, range(shape[axis]), axis % 3)
        indices = np.where(RNG.random(shape) < 0.5, indices, indices - size)
        cases.append(case("ScatterElements", X, indices, RNG.standard_normal(shape).astype("f"), axis=axis, dims=dims))
    check_cases(cases)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_reductions_of_repeated_places(reduction):
    indices, updates = RNG.integers(-4, 4, (6, 3, 5)), RNG.standard_normal((6, 3, 5)).astype("f")
    tuples = np.stack([RNG.integers(-4, 4, 9), RNG.integers(-3, 3, 9)], -1)
    rows = RNG.standard_normal((9, 5)).astype("f")
    whole = (X * 10).astype(np.int64)
    check_cases(
        [
            case("ScatterElements", X, indices, updates, axis=0, reduction=reduction),
            case(
                "ScatterElements",
                whole,
                indices,
                (updates * 9).astype(np.int64),
                axis=0,
                reduction=reduction,
                dims="open",
            ),
            case("ScatterND", X, tuples, rows, reduction=reduction),
            case(
                "ScatterND",
                X.astype(np.float64),
                Const(tuples),
                rows.astype(np.float64),
                reduction=reduction,
                dims="open",
            ),
        ]
    )


@pytest.mark.parametrize("dims", ["fixed", "shared"])
def test_scatter_nd(dims):
    tuples = np.array([[[0, 1], [3, -1]], [[-2, 0], [1, 1]]])
    cases = [
        case("ScatterND", X, Const(tuples), RNG.standard_normal((2, 2, 5)).astype("f"), dims=dims),
        case("ScatterND", X, Const(i64(2, -4)[:, None]), RNG.standard_normal((2, 3, 5)).astype("f"), dims=dims),
        case("ScatterND", X, Const(np.array([[0, 1, 2]])), np.array([7], "f"), dims=dims),
        case("ScatterND", X, Const(np.zeros((0, 2), np.int64)), np.zeros((0, 5), "f"), dims=dims),
        case("ScatterND", X[:, :0], Const(i64(1)[:, None]), np.zeros((1, 0, 5), "f"), dims=dims),
        case("ScatterND", X > 0, Const(i64(1)[:, None]), np.ones((1, 3, 5), bool), dims=dims),
        case("ScatterND", i64(1, 2, 3, 4), Const(i64(1, 3)[:, None]), i64(20, 40), dims=dims),
    ]
    check_cases(cases)


def test_the_last_of_several_updates_counts_and_places_are_clamped():
    indices = np.broadcast_to(i64(1, 1, 2**62, -(2**62))[:, None, None], (4, 3, 5)).copy()
    updates = RNG.standard_normal((4, 3, 5)).astype("f")
    expected = X.copy()
    expected[1], expected[3], expected[0] = updates[1], updates[2], updates[3]
    check_cases(
        [
            case("ScatterElements", X, indices, updates, axis=0, expected=expected),
            case("ScatterND", X, indices[:, :1, 0], updates, expected=expected),
        ]
    )


def test_old_scatter():
    expected = X[0].copy()
    expected[[0, 1, 2], [1, 0, 2]] = X[1, :, 0]
    check_cases([case("Scatter", X[0], i64(1, 0, 2)[:, None], X[1, :, :1], axis=1, expected=expected)], opset=10)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("ScatterElements", X, i64(1), X[0, 0, :1], expected=X), "must have one rank"),
        (case("ScatterElements", X, Const(np.full((1, 3, 5), 4)), X[:1], expected=X), "index 4 does not exist"),
        (
            case("ScatterElements", X, np.zeros((1, 4, 5), np.int64), np.zeros((1, 4, 5), "f"), expected=X),
            "4 are more than",
        ),
        (case("ScatterND", X, np.zeros((1, 2), np.int64), X[:1], expected=X), "is needed"),
        (case("ScatterND", X, i64(0)[:, None], X[:1], reduction="mean", expected=X), "reduction 'mean'"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
