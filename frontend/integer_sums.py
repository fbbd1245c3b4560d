"""Exact sums of products of 8-bit integers.

With constant weights that are signed bytes, or are once their zero point is taken off, kernels multiply uint8 by int8
and sum in int32: ``x * w`` less the data's zero point times the sum of the weights. Signed data moves up by 128, and
its zero point with it.

Other products run on kernels that multiply float32, which holds every integer up to 2**24. Differences of 8-bit
integers are below 256, so 257 of their products can be added there whatever they are, and mostly all of them: constant
weights tell how large a sum can get. Longer sums are cut into parts, and what the parts give is added in int32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax, tirx

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


@dataclass(frozen=True)
class Bytes:
    """What an integer kernel takes: ``data`` uint8, ``weight`` int8, and the data's zero point as uint8, None for 0."""

    data: relax.Expr
    weight: np.ndarray
    zero: Value | None

    def less_zero(self, ctx: Context, sums: relax.Expr, totals: np.ndarray) -> relax.Expr:
        """int32 ``sums`` less the zero point's share; ``totals``, of the weights, broadcast to them."""
        if self.zero is None:
            return sums

        def scalar(x: PrimExpr, zero: PrimExpr, total: PrimExpr) -> PrimExpr:
            return x - zero.astype("int32") * total

        return elementwise(ctx, [sums, self.zero, totals.astype(np.int32)], scalar, None, "less_zero")


def as_bytes(
    ctx: Context, data: Value, weight: Value, data_zero: Value | None, weight_zero: Value | None, axes: tuple[int, ...]
) -> Bytes | None:
    """The operands for an integer kernel; None where weights don't fit, or their sums over ``axes`` might overflow."""
    if not isinstance(weight, np.ndarray) or not (weight_zero is None or isinstance(weight_zero, np.ndarray)):
        return None
    if isinstance(data, np.ndarray) or 0 in weight.shape or tensor_dtype(data) not in BYTES:
        return None
    signed = weight.astype(np.int64) - (0 if weight_zero is None else weight_zero.astype(np.int64))
    if signed.shape != weight.shape or signed.min() < -128 or signed.max() > 127:
        return None
    if 255 * np.abs(signed).sum(axis=axes).max() >= 2**31:
        return None
    tensor, zero = ctx.tensor(data), data_zero
    if tensor_dtype(data) == "int8":
        tensor = elementwise(ctx, [data], _moved, None, "unsigned")
        zero = np.array(0, np.int8) if zero is None else zero
        if isinstance(zero, np.ndarray):
            zero = np.asarray(zero.astype(np.int32) + 128, np.uint8)
        else:
            zero = elementwise(ctx, [zero], _moved, None, "unsigned")
    if isinstance(zero, np.ndarray) and not zero.any():
        zero = None
    return Bytes(tensor, signed.astype(np.int8), zero)


def _moved(x: PrimExpr) -> PrimExpr:
    return (x.astype("int32") + tirx.const(128, "int32")).astype("uint8")


def as_int32(ctx: Context, sums: relax.Expr) -> relax.Expr:
    return ctx.emit(relax.op.astype(sums, "int32"))


def added(ctx: Context, parts: Sequence[relax.Expr]) -> relax.Expr:
    """The sum of int32 tensors of one shape."""
    total = parts[0]
    for part in parts[1:]:
        total = ctx.emit(relax.op.add(total, part))
    return total
