"""Slice against the reference evaluator: opsets, steps, huge bounds, dims and positions only known at run time."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

X = np.arange(7 * 5 * 3, dtype=np.float32).reshape(7, 5, 3)
LARGE, SMALL = 2**63 - 1, -(2**63)

BOUNDS = [
    ([0], [3], [0], [1]),
    ([-3], [LARGE], [0], [1]),
    ([1, 0], [-1, 5], [0, -2], [2, 3]),
    ([LARGE], [SMALL], [1], [-1]),
    ([-1], [-(2**31)], [0], [-2]),
    ([5], [2], [0], [1]),
    ([3], [-100], [0], [-3]),
    ([100], [200], [2], [1]),
    ([-100], [2], [0], [1]),
    ([0, 0, 0], [LARGE, LARGE, LARGE], [0, 1, 2], [1, 1, 1]),
]


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_constant_bounds(dims):
    check_cases([case("Slice", X, *(Const(i64(*part)) for part in bounds), dims=dims) for bounds in BOUNDS])


def test_bounds_read_at_run_time():
    cases = []
    for starts, ends, axes, steps in BOUNDS[2:9]:
        clipped = [i64(*(max(min(v, 2**40), -(2**40)) for v in part)) for part in (starts, ends)]
        cases.append(case("Slice", X, *clipped, Const(i64(*axes)), Const(i64(*steps))))
        cases.append(case("Slice", X, i64(*starts), i64(*ends), Const(i64(*axes)), i64(*steps)))
    check_cases(cases)


def test_axes_read_at_run_time():
    check_cases([case("Slice", X, *(i64(*part) for part in bounds)) for bounds in BOUNDS[:4]])


def test_dtypes_defaults_and_empty_tensors():
    many = [
        np.arange(6).reshape(2, 3).astype(t) for t in ("float16", "float64", "int8", "uint8", "int32", "int64", "bool")
    ]
    cases = [case("Slice", x, Const(np.array([0, 1], np.int32)), Const(np.array([2, 3], np.int32))) for x in many]
    empty = np.zeros((0, 4), np.float32)
    cases += [
        case("Slice", empty, Const(i64(0)), Const(i64(5)), Const(i64(0)), Const(i64(1))),
        case("Slice", empty, Const(i64(-1)), Const(i64(SMALL)), Const(i64(0)), Const(i64(-1))),
        case("Slice", empty, Const(i64(1)), Const(i64(3)), Const(i64(1)), dims="open"),
    ]
    check_cases(cases)


def test_attributes_of_old_opsets():
    check_cases(
        [case("Slice", X, starts=[1, 0], ends=[-1, 2], axes=[0, 2]), case("Slice", X, starts=[2], ends=[1000])], opset=9
    )


def test_bounds_that_are_expressions_over_dims():
    check_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        f (float[past, 4] a, float[seq, 4] b) => (float[p, q] tail, float[r, s] shifted) {
            all = Concat<axis=0>(a, b)
            zero = Constant<value_ints=[0]>()
            past = Shape<end=1>(a)
            total = Shape<end=1>(all)
            tail = Slice(all, past, total, zero)
            one = Constant<value_ints=[1]>()
            end = Sub(total, one)
            shifted = Slice(all, one, end, zero)
        }""",
        [
            {"a": np.random.rand(p, 4).astype("f"), "b": np.random.rand(s, 4).astype("f")}
            for p, s in [(3, 5), (0, 1), (1, 0), (0, 0)]
        ],
    )


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (([0], [1], [0], [0]), "step can't be 0"),
        (([0], [1], [3], [1]), "axis 3 does not exist"),
        (([0, 0], [1, 1], [0, -3], [1, 1]), "given twice"),
        (([0, 0], [1], [0], [1]), "differ in length"),
    ],
)
def test_refusals(bounds, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([case("Slice", X, *(Const(i64(*part)) for part in bounds), expected=X)])
