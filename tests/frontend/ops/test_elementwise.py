"""Arithmetic against the reference evaluator: fixed and open dims, broadcasting, integers at their edges, NaN."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx_check import Const, case, check_cases

rng = np.random.default_rng(0)
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def floats(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dims", ["fixed", "open", "shared"])
def test_broadcasting(dims: str) -> None:
    a, b = floats(2, 1, 3), floats(5, 1)
    check_cases(
        [
            case("Add", a, b, dims=dims),
            case("Sub", b, a, dims=dims),
            case("Mul", a, floats(1), dims=dims),
            case("Div", a, Const(floats(3)), dims=dims),
            case("Div", Const(np.float32(2.5)), a, dims=dims),
            case("Add", floats(), a, dims=dims),
            case("Add", floats(), floats(), dims=dims),
            case("Add", a, a.copy(), dims=dims),
            case("Add", np.zeros((0, 3), np.float32), floats(1, 3), dims=dims),
            case("Mul", a, Const(floats(1, 1, 1, 1)), dims=dims),
            case("Sum", floats(2, 5, 3), a, b, dims=dims),
            case("Mean", floats(2, 5, 3), a, b, dims=dims),
            case("Max", a, dims=dims),
            case("Min", a, b, dims=dims),
        ]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_float_types(dtype: str) -> None:
    a, b = (floats(3, 4).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype) for _ in range(2))
    check_cases(
        [
            case(op, a, b, dims="open")
            for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Pow")[: 7 if dtype != "float64" else 8]
        ]
    )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    """Wrap-around, and division by 0 and of the least integer by -1, which trap on x86."""
    info = np.iinfo(dtype)
    edges = [info.min, info.min + 1, info.max, 0, 1, 2, 7] + ([-1, -2, -7] if info.min else [])
    grid = np.array([(a, b) for a in edges for b in edges], dtype)
    a, b = grid[:, 0].copy(), grid[:, 1].copy()
    nonzero = b != 0
    safe = np.where((a == info.min) & (b == (-1 if info.min else 0)), 1, a)
    x, y = safe[nonzero], b[nonzero]
    wide = [(int(p), int(q)) for p, q in zip(x, y, strict=True)]
    quotient = np.array([abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1) for p, q in wide], dtype)
    remainder = np.array([p - q * (abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)) for p, q in wide], dtype)
    with np.errstate(all="ignore"):
        check_cases(
            [
                case("Add", a, b),
                case("Sub", a, b),
                case("Mul", a, b),
                case("Max", a, b),
                case("Min", a, b),
                case("Div", x, y, expected=quotient),
                case("Mod", x, y, expected=np.array([p % q for p, q in wide], dtype)),
                case("Mod", x, y, fmod=1, expected=remainder),
                case(
                    "Div",
                    x,
                    Const(np.array(3, dtype)),
                    expected=np.array([abs(p) // 3 * (1 if p >= 0 else -1) for p, _ in wide], dtype),
                ),
                case("Div", a, np.zeros_like(a), expected=np.zeros_like(a)),
                case("Mod", a, np.zeros_like(a), expected=np.zeros_like(a)),
                case(
                    "Div",
                    np.array([info.min], dtype),
                    np.array([-1 if info.min else 1], dtype),
                    expected=np.array([info.min], dtype),
                ),
            ]
        )


def test_mod_of_floats() -> None:
    a = np.array([5.3, -5.3, 5.3, -5.3, 0.0, np.inf, np.nan, 7.5], np.float32)
    b = np.array([2.1, 2.1, -2.1, -2.1, 3.0, 2.0, 1.0, 2.5], np.float32)
    check_cases(
        [
            case("Mod", a, b, fmod=1),
            case("Mod", a.astype(np.float16), b.astype(np.float16), fmod=1),
            case("Mod", a.astype(np.float64), b.astype(np.float64), fmod=1),
        ]
    )


def test_pow() -> None:
    a = np.array([0.5, 2.0, 3.0, 1.5], np.float32)
    n = np.array([-3, -1, 0, 2, 5], np.int64)
    check_cases(
        [
            case("Pow", a, floats(4)),
            case("Pow", floats(3, 4), Const(np.float32(2))),
            case("Pow", floats(3, 4), Const(np.array([3.0], np.float32)), dims="open"),
            case("Pow", np.abs(floats(3, 4)), Const(np.float32(0.5))),
            case("Pow", a, np.array([1, 2, 3, -2], np.int64)),
            case("Pow", n, Const(np.int64(2))),
            case("Pow", n, Const(np.int64(3))),
            case("Pow", np.array([2, 3, 4], np.int32), np.array([5, 4, 3], np.int32)),
            case("Pow", np.array([4, 9, 16], np.int32), np.array([0.5, 0.5, 1.5], np.float32)),
            case("Pow", np.array([1.5, 2.5]), np.array([2.0, -2.0])),
        ]
    )


def test_nan_wins_in_max_and_min() -> None:
    a = np.array([1, np.nan, 3, -np.inf, np.nan], np.float32)
    b = np.array([2, 2, np.nan, np.inf, np.nan], np.float32)
    zero = Const(np.float32(0))
    check_cases(
        [
            case(op, *pair)
            for op in ("Max", "Min")
            for pair in ((a, b), (b, a), (a, zero), (zero, a), (a, Const(np.float32(np.nan))))
        ]
    )


def test_size_that_does_not_broadcast_fails_when_run() -> None:
    from onnx.parser import parse_model
    from onnx_check import Compiled

    model = parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n] x, float[m] y) => (float[k] z) { z = Add(x, y) }'
    )
    compiled = Compiled(model)
    ones = {n: np.ones(n, np.float32) for n in range(5)}
    for n, m in [(4, 4), (1, 3), (3, 1), (1, 1), (0, 1), (1, 0)]:
        assert compiled({"x": ones[n], "y": ones[m]})[0].shape == (ones[n] + ones[m]).shape
    for n, m in [(3, 4), (4, 2), (0, 2)]:
        with pytest.raises(Exception, match=r"(?i)shape|match|dim"):
            compiled({"x": ones[n], "y": ones[m]})


def test_old_broadcast_attribute() -> None:
    """Before opset 7 ``axis`` said where the second operand's dims start."""
    a, b = floats(2, 3, 4, 5), floats(3, 4)
    check_cases(
        [
            case("Add", a, b, broadcast=1, axis=1, expected=a + b[..., None]),
            case("Mul", a, floats(5) * 0 + 2, broadcast=1, expected=a * 2),
        ],
        opset=6,
    )
