"""Arithmetic on dims that stays in Python ints where both sides are known, and is a TVM expression where not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from tvm import tirx

from .values import PrimExpr, as_int

INT32_MAX = 2**31 - 1
"""ONNX's own word for "to the end" of a dim of unknown size."""


def prim(value: PrimExpr) -> PrimExpr:
    """The value as an int64 expression."""
    return tirx.const(int(value), "int64") if as_int(value) is not None else value


def known(*values: PrimExpr) -> bool:
    """Whether all of ``values`` are numbers rather than expressions."""
    return all(as_int(value) is not None for value in values)


def minimum(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return min(int(a), int(b)) if known(a, b) else tirx.min(prim(a), prim(b))


def maximum(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return max(int(a), int(b)) if known(a, b) else tirx.max(prim(a), prim(b))


def floordiv(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return int(a) // int(b) if known(a, b) else tirx.floordiv(prim(a), prim(b))


def floormod(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return int(a) % int(b) if known(a, b) else tirx.floormod(prim(a), prim(b))


def ceildiv(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return -floordiv(-a, b)


def select(condition: Any, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """``a`` where ``condition`` holds, else ``b``; both are harmless to compute."""
    if isinstance(condition, bool):
        return a if condition else b
    return tirx.Select(condition, prim(a), prim(b))


def equal(a: PrimExpr, b: PrimExpr) -> Any:
    """The condition that two dims agree, a bool where both are known."""
    return int(a) == int(b) if known(a, b) else tirx.EQ(prim(a), prim(b))


def total(values: Sequence[PrimExpr]) -> PrimExpr:
    return reduce(lambda a, b: a + b, values, 0)
