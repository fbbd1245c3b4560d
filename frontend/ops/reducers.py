"""Commutative reducers that follow IEEE: NaN wins over every number, and nothing is below -inf.

TVM's own ``max`` starts at the least finite number and drops NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from ..values import PrimExpr
from .elementwise import larger, smaller


def lowest(dtype: str) -> PrimExpr:
    return tirx.const(float("-inf"), dtype) if "float" in dtype else tirx.min_value(dtype)


def highest(dtype: str) -> PrimExpr:
    return tirx.const(float("inf"), dtype) if "float" in dtype else tirx.max_value(dtype)


reduce_max: Callable[..., PrimExpr] = te.comm_reducer(larger, lowest, name="ieee_max")
reduce_min: Callable[..., PrimExpr] = te.comm_reducer(smaller, highest, name="ieee_min")
reduce_product: Callable[..., PrimExpr] = te.comm_reducer(
    lambda a, b: a * b, lambda dtype: tirx.const(1, dtype), name="product"
)
number_max: Callable[..., PrimExpr] = te.comm_reducer(
    lambda a, b: tirx.max(a, b), lowest, name="number_max"
)
"""The largest number, -inf where there is none: what is compared with a NaN loses or wins, as it falls out."""
