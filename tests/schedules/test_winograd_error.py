"""Winograd's error stays within the bound that is stated for it, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from winograd_cases import TRANSFORMS, convolved, measure

from onnxkiln.schedules.winograd_error import TRANSFORMS as ROUNDINGS
from onnxkiln.schedules.winograd_error import UNIT, error_bound

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CASES = {
    "random": (normal(32, 32, 3, 3), normal(2, 32, 13, 11)),
    "all positive": (np.abs(normal(32, 48, 3, 3)), np.abs(normal(1, 48, 9, 14))),
    "one large activation": (normal(32, 32, 3, 3), np.where(normal(1, 32, 12, 12) > 2.5, 1e4, 1).astype(np.float32)),
    "weights of one sign by a large mean": (normal(32, 64, 3, 3) / 100, normal(1, 64, 8, 8) + 50),
    "edges, as a filter of learnt weights has": (
        np.float32([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]) * normal(32, 32, 1, 1),
        normal(1, 32, 7, 17),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_no_element_is_further_off_than_the_bound(case: str) -> None:
    weight, data = CASES[case]
    for name, found in measure(weight, data):
        assert 0 < found.used <= 1, name


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_bound_follows_from_the_matrices(name: str) -> None:
    """One channel, one weight, one pixel: by hand. And it is never below what direct sums may be off by."""
    transform = TRANSFORMS[name]
    weight, data = np.zeros((1, 1, 3, 3), np.float32), np.zeros((1, 1, 4, 4), np.float32)
    weight[0, 0, 1, 1], data[0, 0, 1, 1] = 3, 5
    bound = error_bound(data, weight, transform)
    down = np.abs(transform.output) @ (np.abs(transform.input[:, 2]) * np.abs(transform.weight[:, 1]))
    hand = (1 + ROUNDINGS) * UNIT * 15 * np.outer(down, down)  # the pixel is the tile's third row and column
    np.testing.assert_allclose(bound[0, 0, : transform.out, : transform.out], hand[:4, :4])
    weight, data = normal(4, 8, 3, 3), normal(1, 8, 9, 9)
    assert (error_bound(data, weight, transform) > 8 * UNIT * convolved(np.abs(data), np.abs(weight))).all()
