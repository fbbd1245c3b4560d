"""Recurrent weights in tiles: which columns lie where."""

from __future__ import annotations

import numpy as np
import pytest

from onnxkiln.frontend.recurrent_weights import LANES, WIDEST, packed, products_of, tiles_of


@pytest.mark.parametrize("count", [1, 15, 16, 17, 112, 113, 128, 512, 524, 1024])
def test_tiles_are_whole_vectors_but_for_the_last(count: int) -> None:
    widths = tiles_of(count)
    assert sum(widths) == count and max(widths) <= WIDEST and len(set(widths[:-1])) <= 1
    assert all(width % LANES == 0 for width in widths[:-1]) and widths[-1] <= widths[0]


@pytest.mark.parametrize("gates", [1, 3, 4])
def test_every_element_is_where_a_step_looks_for_it(gates: int) -> None:
    hidden = 60
    weight = np.arange(hidden * gates * hidden, dtype=np.float32).reshape(hidden, -1)
    flat = np.asarray(packed(None, weight, gates, hidden))
    for first, count in products_of(gates, hidden):
        for width in tiles_of(count):
            tile = flat[first * hidden : (first + width) * hidden].reshape(hidden, width)
            np.testing.assert_array_equal(tile, weight[:, first : first + width])
            first += width
