"""NonMaxSuppression against ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(11)


def boxes_of(batch: int, count: int) -> np.ndarray:
    corners = RNG.uniform(0, 10, (batch, count, 2)).astype(np.float32)
    return np.concatenate([corners, corners + RNG.uniform(1, 5, (batch, count, 2)).astype("f")], -1)


BOXES, SCORES = boxes_of(2, 30), RNG.random((2, 3, 30)).astype(np.float32)


def suppressed(*limits: object, boxes: np.ndarray = BOXES, dims: str = "fixed", **attributes: int) -> Case:
    return by_runtime(case("NonMaxSuppression", boxes, SCORES, *limits, dims=dims, **attributes))


def i64(value: int) -> np.ndarray:
    return np.array([value])


def f32(value: float) -> np.ndarray:
    return np.array([value], np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_limits(dims):
    cases = [
        suppressed(Const(i64(most)), Const(f32(overlap)), Const(f32(least)), dims=dims)
        for most, overlap, least in itertools.product((100, 4), (0.5, 0.1), (0.0, 0.6, 2.0))
    ]
    flipped = BOXES[..., [2, 1, 0, 3]]
    cases += [
        suppressed(Const(i64(9)), dims=dims),
        suppressed(dims=dims),
        suppressed(Const(i64(0)), dims=dims),
        suppressed(Const(i64(9)), Const(f32(0.3)), boxes=flipped, dims=dims),
        suppressed(Const(i64(9)), Const(f32(0.3)), center_point_box=1, dims=dims),
    ]
    check_cases(cases)


def test_limits_read_at_run_time():
    check_cases([suppressed(i64(5), f32(0.3), f32(0.2)), suppressed(np.array(5), np.array(0.3, np.float32))])


def test_equal_boxes_and_scores():
    same = np.broadcast_to(BOXES[:, :1], (2, 30, 4)).copy()
    flat = np.full((2, 3, 30), 0.5, np.float32)
    cases = [
        by_runtime(case("NonMaxSuppression", boxes, scores, Const(i64(40)), Const(f32(0.4))))
        for boxes, scores in [(same, SCORES), (BOXES, flat), (same, flat)]
    ]
    check_cases(cases)


def test_refusals():
    with pytest.raises(ConversionError, match="needs boxes"):
        check_cases([case("NonMaxSuppression", BOXES[0], SCORES, Const(i64(3)), expected=SCORES)])
