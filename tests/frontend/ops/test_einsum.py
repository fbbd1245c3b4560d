"""Einsum against NumPy: contractions, batches, diagonals, ellipses, open dims."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Const, case, check_cases

from onnxkiln.errors import ConversionError
from onnxkiln.frontend.ops.einsum import parse

rng = np.random.default_rng(9)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_equations(dims: str) -> None:
    square = floats(4, 4)
    operands = {
        "ij,jk->ik": [floats(2, 3), floats(3, 5)],
        "ij,jk": [floats(2, 3), floats(3, 5)],
        "bij,bjk->bik": [floats(2, 3, 4), floats(2, 4, 5)],
        "bhqd,bhkd->bhqk": [floats(2, 3, 4, 5), floats(2, 3, 6, 5)],
        "bqhd,bkhd->bhqk": [floats(2, 4, 3, 5), floats(2, 6, 3, 5)],
        "ij->ji": [floats(2, 3)],
        "ij->": [floats(2, 3)],
        "ij->i": [floats(2, 3)],
        "ii->i": [square],
        "ii": [square],
        "ii->": [square],
        "i,j->ij": [floats(2), floats(3)],
        "i,i->": [floats(4), floats(4)],
        "i,i->i": [floats(4), floats(4)],
        "...ij,...jk->...ik": [floats(2, 3, 4), floats(2, 4, 5)],
        "...ii ->...i": [floats(3, 4, 4)],
        "ab,bc,cd->ad": [floats(2, 3), floats(3, 4), floats(4, 5)],
        "ij,kl->k": [floats(2, 3), floats(4, 5)],
        "bij,ij->bj": [floats(2, 3, 4), floats(3, 4)],
    }
    cases = [case("Einsum", *arrays, equation=equation, dims=dims) for equation, arrays in operands.items()]
    check_cases(cases, rtol=1e-4, atol=1e-5)


def test_ellipsis_that_broadcasts() -> None:
    a, b = floats(1, 3, 4), floats(2, 4, 5)
    check_cases(
        [case("Einsum", a, b, equation="...ij,...jk->...ik"), case("Einsum", a[0], b, equation="...ij,...jk->...ik")],
        rtol=1e-4,
        atol=1e-5,
    )


def test_types() -> None:
    a, b = floats(2, 3), floats(3, 4)
    check_cases(
        [case("Einsum", a.astype(dtype), b.astype(dtype), equation="ij,jk->ik") for dtype in (np.float64, np.float16)]
    )


@pytest.mark.parametrize(("equation", "ranks"), [("ij,jk->ik", [2]), ("ij->i", [3]), ("ij->i", [1])])
def test_equations_that_do_not_fit(equation: str, ranks: list[int]) -> None:
    with pytest.raises(ConversionError, match="equation"):
        parse(equation, ranks)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_sizes_of_one_that_a_sum_broadcasts(dims: str) -> None:
    operands = {
        "ij,jk->ik": [floats(2, 1), floats(3, 5)],
        "bij,bjk->bik": [floats(2, 3, 4), floats(2, 1, 5)],
        "i,i->": [floats(1), floats(4)],
        "ab,bc,cd->ad": [floats(2, 3), floats(1, 4), floats(1, 5)],
    }
    fixed = [case("Einsum", *arrays, equation=equation) for equation, arrays in operands.items()]
    mixed = [
        case("Einsum", Const(arrays[0]), *arrays[1:], equation=equation, dims="open")
        for equation, arrays in operands.items()
        if 1 in arrays[0].shape
    ]
    check_cases(fixed if dims == "fixed" else mixed, rtol=1e-4, atol=1e-5)
