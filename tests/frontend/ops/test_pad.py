"""Pad against the reference evaluator and NumPy: every mode, negative and wide pads, pads known at run time."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

X = np.arange(4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3) + 1
PADS = [(0, 0, 0, 0, 0, 0), (1, 2, 0, 3, 0, 1), (0, 4, 2, 0, 4, 2), (3, 0, 0, 3, 0, 0)]


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_modes(dims):
    cases = [
        case("Pad", X, Const(i64(*pads)), mode=mode, dims=dims)
        for mode in ("constant", "reflect", "edge", "wrap")
        for pads in PADS
    ]
    cases += [
        case("Pad", X, Const(i64(*PADS[1])), Const(np.float32(-7.5)), dims=dims),
        case("Pad", X, Const(i64(*PADS[1])), np.float32(2.5), dims=dims),
        case("Pad", X, Const(i64(1, 2, 3, 0)), None, Const(i64(-1, 0)), dims=dims),
        case("Pad", X[:0], Const(i64(1, 0, 0, 1, 0, 0)), dims=dims),
        case("Pad", np.float32(3), Const(np.zeros(0, np.int64)), dims=dims, expected=np.array(3, np.float32)),
    ]
    check_cases(cases)


@pytest.mark.parametrize("mode", ["reflect", "wrap", "edge"])
def test_pads_wider_than_the_tensor(mode):
    wide = (9, 11, 0, 4, 7, 0)
    expected = np.pad(X, [(9, 4), (11, 7), (0, 0)], mode=mode)
    one = np.pad(X[:1], [(3, 3), (0, 0), (0, 0)], mode=mode)
    check_cases(
        [
            case("Pad", X, Const(i64(*wide)), mode=mode, expected=expected),
            case("Pad", X, i64(*wide), mode=mode, expected=expected, dims="fixed"),
            case("Pad", X[:1], Const(i64(3, 0, 0, 3, 0, 0)), mode=mode, expected=one, dims="open"),
        ]
    )


def test_negative_pads_cut():
    check_cases(
        [
            case("Pad", X, Const(i64(-1, 0, 1, 0, -2, 0)), expected=np.pad(X[1:, :-2], [(0, 0), (0, 0), (1, 0)])),
            case("Pad", X, i64(-1, 0, 1, 0, -2, 0), expected=np.pad(X[1:, :-2], [(0, 0), (0, 0), (1, 0)])),
            case("Pad", X, Const(i64(-3, 0, 0, -1, 0, 0)), expected=X[3:3], dims="open"),
            case(
                "Pad",
                X,
                Const(i64(-1, 0, 0, 2, 0, 0)),
                mode="edge",
                expected=np.pad(X[1:], [(0, 2), (0, 0), (0, 0)], "edge"),
            ),
        ]
    )


def test_axes_read_at_run_time():
    check_cases([case("Pad", X, i64(1, 2, 3, 0), None, i64(-1, 0), mode=mode) for mode in ("constant", "wrap")])


def test_dtypes_and_old_opsets():
    many = [X.astype(t) for t in ("float16", "float64", "int8", "uint8", "int32", "int64")] + [X > 3]
    check_cases([case("Pad", x, Const(i64(*PADS[1])), mode=mode) for x in many for mode in ("constant", "wrap")])
    check_cases([case("Pad", X, pads=[*PADS[1]], value=1.5), case("Pad", X, pads=[*PADS[1]], mode="edge")], opset=10)


def test_pads_that_are_expressions_over_dims():
    check_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        f (float[n] x, float[m] y) => (float[k] z) {
            some = Shape(y)
            zero = Constant<value_ints=[0]>()
            pads = Concat<axis=0>(zero, some)
            z = Pad<mode="reflect">(x, pads)
        }""",
        [{"x": np.arange(n, dtype=np.float32), "y": np.zeros(m, np.float32)} for n, m in [(5, 3), (4, 0), (3, 9)]],
    )


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Pad", X, Const(i64(1, 2)), expected=X), "2 pads for the 3 axes"),
        (case("Pad", X, Const(i64(-3, 0, 0, -2, 0, 0)), expected=X), "cut more than the 4"),
        (case("Pad", X, Const(i64(*PADS[1])), mode="mirror", expected=X), "mode 'mirror'"),
        (case("Pad", X[:0], Const(i64(*PADS[1])), mode="edge", expected=X), "no elements to pad with"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
