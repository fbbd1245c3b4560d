"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss against the reference evaluator."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(3)


def made(op_type: str, shape: tuple[int, ...], **options: object) -> Case:
    scores = RNG.standard_normal(shape).astype(options.pop("dtype", np.float32))
    labels = RNG.integers(0, shape[1], (shape[0], *shape[2:])).astype(options.pop("labels", np.int64))
    weights = [RNG.random(shape[1]).astype(scores.dtype)] if options.pop("weighted", False) else []
    return case(op_type, scores, labels, *weights, **options)


@pytest.mark.parametrize("op_type", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_reductions(op_type: str, dims: str) -> None:
    outputs = 2 if op_type.startswith("Softmax") else 1
    cases = [
        made(op_type, shape, reduction=reduction, weighted=weighted, dims=dims, outputs=outputs, **ignored)
        for shape, reduction, weighted, ignored in itertools.product(
            [(3, 5), (2, 3, 4, 1)], ["none", "sum", "mean"], [False, True], [{}, {"ignore_index": 1}]
        )
    ]
    cases.append(made(op_type, (4, 3), labels=np.int32, dims=dims, outputs=1))
    cases.append(made(op_type, (4, 3, 2), dtype=np.float64, dims=dims, outputs=outputs))
    check_cases(cases)


def test_ignored_labels_lie_anywhere() -> None:
    scores = RNG.standard_normal((4, 3)).astype(np.float32)
    labels = np.array([-100, 2, 0, -100])
    loss = -np.array([0, scores[1, 2], scores[2, 0], 0], np.float32)
    weights = np.array([2, 1, 0.5], np.float32)
    attributes = {"ignore_index": -100}
    check_cases(
        [
            case("NegativeLogLikelihoodLoss", scores, labels, reduction="none", **attributes, expected=loss),
            case("NegativeLogLikelihoodLoss", scores, labels, **attributes, expected=np.array(loss.sum() / 2)),
            case(
                "NegativeLogLikelihoodLoss",
                scores,
                labels,
                Const(weights),
                **attributes,
                expected=np.array((loss[1] * 0.5 + loss[2] * 2) / 2.5, np.float32),
            ),
        ]
    )


def test_16_bits_are_summed_in_float32() -> None:
    ones = np.full((3000, 2), 1.0)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        node = case(
            "NegativeLogLikelihoodLoss", ones.astype(dtype), np.zeros(3000, np.int64), reduction="sum",
            expected=np.array(-3000, dtype),
        )  # fmt: skip
        check_cases([node])


def test_nothing() -> None:
    scores, labels = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    name = "SoftmaxCrossEntropyLoss"
    check_cases(
        [
            case(name, scores, labels, reduction="none", expected=np.zeros(0, np.float32)),
            case(name, scores, labels, reduction="sum", expected=np.zeros((), np.float32)),
            case(name, scores, labels, reduction="mean", expected=np.array(np.nan, np.float32)),
        ]
    )


def test_classes_that_do_not_exist_are_read_nowhere() -> None:
    scores = RNG.standard_normal((3, 4)).astype(np.float32)
    labels = np.array([4, 1 << 40, -(1 << 40)])
    expected = -scores[[0, 1, 2], [3, 3, 0]]
    check_cases([case("NegativeLogLikelihoodLoss", scores, labels, reduction="none", expected=expected)])


def test_refusals() -> None:
    scores = np.zeros((3, 4, 2), np.float32)
    for labels, weights, words in [
        (np.zeros(3, np.int64), None, "one dim less"),
        (np.zeros((2, 2), np.int64), None, "must agree"),
        (np.zeros((3, 2), np.int64), np.ones(5, np.float32), "weights and of classes"),
    ]:
        with pytest.raises(ConversionError, match=words):
            check_cases([case("SoftmaxCrossEntropyLoss", scores, labels, weights, expected=scores)])
