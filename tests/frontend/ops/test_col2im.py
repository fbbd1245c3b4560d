"""Col2Im against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(6)


def _columns(image: tuple, block: tuple, channels: int = 3, **attributes: list) -> tuple[np.ndarray, ...]:
    count = len(image)
    strides, dilations = (attributes.get(name, [1] * count) for name in ("strides", "dilations"))
    pads = attributes.get("pads", [0] * 2 * count)
    steps = [
        (size + pads[i] + pads[count + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i, size in enumerate(image)
    ]
    shape = (2, channels * int(np.prod(block)), int(np.prod(steps)))
    return RNG.standard_normal(shape).astype(np.float32), np.array(image), np.array(block)


FORMS: list[tuple[tuple, tuple, dict]] = [
    ((5, 7), (2, 3), {}),
    ((5, 7), (3, 1), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ((6, 6), (2, 2), {"dilations": [1, 3], "strides": [2, 2]}),
    ((9,), (4,), {"strides": [3]}),
    ((3, 4, 5), (1, 2, 3), {"pads": [0, 1, 1, 0, 1, 1]}),
]


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_sizes_at_run_time(dims):
    check_cases(
        [
            case("Col2Im", *_columns(image, block, **more), dims=dims if dims == "fixed" else "first", **more)
            for image, block, more in FORMS
        ]
    )


def test_constant_sizes():
    cases = []
    for image, block, more in FORMS:
        x, *sizes = _columns(image, block, **more)
        cases.append(case("Col2Im", x, *map(Const, sizes), dims="first", **more))
        cases.append(case("Col2Im", x.astype(np.float64), *map(Const, sizes), **more))
    check_cases(cases)


def test_refusals():
    x, *sizes = _columns((5, 7), (2, 3))
    with pytest.raises(ConversionError, match="the input has 19 rows or columns of blocks, 20 are needed"):
        check_cases([case("Col2Im", x[..., 1:], *map(Const, sizes), expected=x)])
