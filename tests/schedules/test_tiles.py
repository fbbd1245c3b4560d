"""Register tiles fit the registers and are judged by what they read."""

from __future__ import annotations

import pytest

from onnxkiln.schedules.tiles import best_width, fits, registers_per_block, tile_speed, tiles
from onnxkiln.targets import parse

TARGETS = [parse(f"cpu:{name}")[0] for name in ("x86-64-v1", "x86-64-v3", "x86-64-v4")]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_sums_weights_and_an_input_fit_the_registers(target) -> None:
    registers = 32 if target.vector_lanes == 16 else 16
    for rows in (None, 1, 7, 14, 128):
        for height, width in tiles(rows, 24, target):
            vectors = (height + 1) * width * registers_per_block(target) + 1
            assert vectors <= registers or height == 1, (height, width)
            assert 24 % width == 0 and (rows is None or height <= rows)


def test_three_rows_of_two_blocks_would_be_spilled_with_16_registers() -> None:
    v3, v4 = TARGETS[1:]
    assert not fits(3, 2, v3) and fits(3, 2, v4)
    assert best_width(3, [1, 2, 4], v3, 64) == 1


def test_weights_from_the_second_cache_want_rows() -> None:
    """Of a deep sum few rows are slow: each step reads new weights. Half as wide vectors read them half as fast."""
    v3, v4 = TARGETS[1:]
    deep = 1 << 14
    assert tile_speed(3, 4, v4, deep) < tile_speed(3, 4, v4, 8)
    assert tile_speed(6, 4, v4, deep) == tile_speed(6, 4, v4, 8)
    assert tile_speed(3, 1, v3, deep) == tile_speed(3, 1, v3, 8)
