"""Exact sums of products of 8-bit integers, on kernels that multiply float32.

float32 holds every integer up to 2**24. Differences of 8-bit integers are below 256, so 257 of their products can be
added there whatever they are, and mostly all of them: constant weights tell how large a sum can get. Longer sums are
cut into parts, and what the parts give is added in int32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax

from .context import Context
from .ops.broadcasting import elementwise
from .quantization import LIMITS
from .values import PrimExpr, Value, tensor_dtype

BYTES = ("uint8", "int8")
EXACT = 1 << 24


def shifted(ctx: Context, value: Value, zero: Value | None, dtype: str = "float32") -> Value:
    """``value - zero`` of 8-bit integers in ``dtype``, which holds it exactly."""
    if isinstance(value, np.ndarray) and (zero is None or isinstance(zero, np.ndarray)):
        wide = value.astype(np.int32) - (0 if zero is None else zero.astype(np.int32))
        return np.asarray(wide, dtype)
    if zero is None or (isinstance(zero, np.ndarray) and not zero.any()):
        return ctx.emit(relax.op.astype(ctx.tensor(value), dtype))

    def difference(x: PrimExpr, offset: PrimExpr) -> PrimExpr:
        return x.astype(dtype) - offset.astype(dtype)

    return elementwise(ctx, [value, zero], difference, None, "shifted")


def largest(value: Value, zero: Value | None) -> int:
    """The largest magnitude that ``value - zero`` can have."""
    low, high = LIMITS[tensor_dtype(value)]
    if zero is None:
        return max(-low, high)
    if not isinstance(zero, np.ndarray):
        return high - low
    return int(max(int(zero.max(initial=0)) - low, high - int(zero.min(initial=0))))


def exact_parts(length: int, fits: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """(start, length) of the fewest equal parts of ``length`` terms that each ``fits(start, end)``.

    The sums of one term always fit.
    """
    for count in range(1, length):
        size = -(-length // count)
        parts = [(start, min(size, length - start)) for start in range(0, length, size)]
        if all(fits(start, start + size) for start, size in parts):
            return parts
    return [(start, 1) for start in range(length)]


def fits_weights(magnitudes: np.ndarray, other: int) -> Callable[[int, int], bool]:
    """For constant weights: ``magnitudes`` [terms, outputs], each multiplied by what is at most ``other``."""
    return lambda start, end: int(magnitudes[start:end].sum(axis=0).max(initial=0)) * other <= EXACT


def as_int32(ctx: Context, sums: relax.Expr) -> relax.Expr:
    return ctx.emit(relax.op.astype(sums, "int32"))


def added(ctx: Context, parts: Sequence[relax.Expr]) -> relax.Expr:
    """The sum of int32 tensors of one shape."""
    total = parts[0]
    for part in parts[1:]:
        total = ctx.emit(relax.op.add(total, part))
    return total
