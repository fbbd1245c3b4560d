"""DeformConv against sums written out here: ONNX's evaluator divides by size - 1 on the way."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, assert_same, case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(7)


def _sample(image: np.ndarray, row: float, column: float) -> np.ndarray:
    """The bilinear mean of an image [C, H, W]; nothing lies outside."""
    top, left = int(np.floor(row)), int(np.floor(column))
    total = np.zeros(image.shape[0])
    for r, c in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= r < image.shape[1] and 0 <= c < image.shape[2]:
            total += image[:, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


def _reference(x, weight, offset, bias, mask, strides, pads, dilations, group, offset_group):
    outs, per_group, height, width = weight.shape
    result = np.zeros((x.shape[0], outs, *offset.shape[2:]))
    shared = x.shape[1] // offset_group
    for n, i, j, ki, kj in np.ndindex(x.shape[0], *offset.shape[2:], height, width):
        seen = np.zeros(x.shape[1])
        for part in range(offset_group):
            spot = (part * height + ki) * width + kj
            row = i * strides[0] - pads[0] + ki * dilations[0] + offset[n, 2 * spot, i, j]
            column = j * strides[1] - pads[1] + kj * dilations[1] + offset[n, 2 * spot + 1, i, j]
            these = slice(part * shared, (part + 1) * shared)
            seen[these] = _sample(x[n, these], row, column) * (1 if mask is None else mask[n, spot, i, j])
        for out in range(outs):
            first = out // (outs // group) * per_group
            result[n, out, i, j] += seen[first : first + per_group] @ weight[out, :, ki, kj]
    return result + (0 if bias is None else bias[:, None, None])


def _case(group=1, offset_group=1, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), more=True, dtype="f"):
    x = RNG.standard_normal((2, 4, 6, 5))
    weight = RNG.standard_normal((6, 4 // group, 3, 2))
    rows = (6 + pads[0] + pads[2] - dilations[0] * 2 - 1) // strides[0] + 1
    columns = (5 + pads[1] + pads[3] - dilations[1] - 1) // strides[1] + 1
    offset = RNG.standard_normal((2, offset_group * 12, rows, columns)) * 2
    bias, mask = (RNG.standard_normal(6), RNG.random((2, offset_group * 6, rows, columns))) if more else (None, None)
    arrays = [None if a is None else a.astype(dtype) for a in (x, weight, offset, bias, mask)]
    wide = [None if a is None else a.astype("d") for a in arrays]
    wanted = _reference(*wide, strides, pads, dilations, group, offset_group).astype(dtype)
    named = {"strides": list(strides), "pads": list(pads), "dilations": list(dilations)}
    return case("DeformConv", *arrays, expected=wanted, group=group, offset_group=offset_group, **named)


def test_against_sums():
    cases = [
        _case(more=False),
        _case(group=2, offset_group=4, pads=(1, 0, 2, 1)),
        _case(strides=(2, 1), dilations=(1, 2), offset_group=2),
        _case(dtype="d"),
    ]
    check_cases(cases, opset=19, rtol=1e-4, atol=1e-4)


def test_open_sizes():
    text = """<ir_version: 10, opset_import: ["" : 19]>
        f (float[n, 2, h, w] x, float[n, 18, a, b] offset, float[3, 2, 3, 3] weight) => (float[n, 3, a, b] y) {
            y = DeformConv<pads=[1, 1, 1, 1]>(x, weight, offset)
        }"""
    feeds = []
    for n, h, w in ((1, 5, 4), (2, 3, 7)):
        shapes = {"x": (n, 2, h, w), "offset": (n, 18, h, w), "weight": (3, 2, 3, 3)}
        feeds.append({name: RNG.standard_normal(shape).astype("f") for name, shape in shapes.items()})
    compiled = Compiled(onnx.parser.parse_model(text))
    for feed in feeds:
        inputs = feed["x"], feed["weight"], feed["offset"]
        wanted = _reference(*inputs, None, None, (1, 1), (1, 1), (1, 1), 1, 1)
        assert_same(compiled(feed)[0], wanted.astype("f"), "open sizes", 1e-4, 1e-4)


def test_narrow_floats():
    check_cases([_case(dtype="e", group=2)], opset=19)


def test_wild_offsets_read_nothing():
    """Far outside, infinite, and no numbers at all."""
    x, weight = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 1, 1), np.float32)
    offset = np.zeros((1, 2, 3, 3), np.float32)
    offset[0, :, 0] = [[1e30, -1e30, np.inf], [0, 0, -np.inf]]
    wanted = np.ones((1, 1, 3, 3), np.float32)
    wanted[0, 0, 0] = 0
    check_cases([case("DeformConv", x, weight, offset, expected=wanted)], opset=19)


def test_refusals():
    x, weight, offset = (np.zeros(shape, np.float32) for shape in ((1, 2, 4, 4), (2, 2, 3, 3), (1, 17, 2, 2)))
    with pytest.raises(ConversionError, match="the dims of offsets and what they are for must agree, found 17 and 18"):
        check_cases([case("DeformConv", x, weight, offset, expected=x)], opset=19)
