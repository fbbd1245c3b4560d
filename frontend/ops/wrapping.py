"""Integer addition, subtraction and multiplication that wrap around, as ONNX's reference evaluator (NumPy) has it.

TVM tells LLVM that 32- and 64-bit integers never overflow, the unsigned ones neither: ``x + 0xffffffff`` was folded
to 0 on the strength of it. Here no step overflows: 32 bits are computed in 64, 64 bits in two halves.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ..values import PrimExpr
from .broadcasting import Scalar

BinaryOp = Callable[[PrimExpr, PrimExpr], PrimExpr]


def bits_of(dtype: str) -> int:
    """Bits of an integer type, 0 of any other."""
    return int(dtype.removeprefix("u").removeprefix("int")) if dtype.startswith(("int", "uint")) else 0


def _wrapped(plain: BinaryOp, halves: BinaryOp) -> Scalar:
    def scalar(a: PrimExpr, b: PrimExpr) -> PrimExpr:
        dtype = str(a.ty.dtype)
        bits = bits_of(dtype)
        if bits < 32:
            return plain(a, b)
        if bits == 32:
            return _truncated(plain(_wide(a), _wide(b)), dtype)
        return halves(a, b).astype(dtype)

    return scalar


def _wide(x: PrimExpr) -> PrimExpr:
    """A 32-bit integer in 64 bits: sums and products of two fit, those of unsigned ones as bit patterns."""
    return x.astype("int64" if str(x.ty.dtype) == "int32" else "uint64")


def _truncated(x: PrimExpr, dtype: str) -> PrimExpr:
    return x.astype(dtype)


def _low(x: PrimExpr) -> PrimExpr:
    """The lower 32 bits of a 64-bit integer, not negative."""
    return tirx.bitwise_and(x, tirx.const(0xFFFFFFFF, str(x.ty.dtype)))


def _shifted(x: PrimExpr, left: bool) -> PrimExpr:
    count = tirx.const(32, str(x.ty.dtype))
    return tirx.shift_left(x, count) if left else tirx.shift_right(x, count)


def _joined(high: PrimExpr, low: PrimExpr) -> PrimExpr:
    """``high * 2**32 + low`` modulo 2**64, of which ``low`` may hold a carry or a borrow."""
    return tirx.bitwise_or(_shifted(high + _shifted(low, False), True), _low(low))


def _signed(x: PrimExpr) -> PrimExpr:
    return x.astype("int64")


def _sum(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    a, b = _signed(a), _signed(b)
    return _joined(_shifted(a, False) + _shifted(b, False), _low(a) + _low(b))


def _difference(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    a, b = _signed(a), _signed(b)
    return _joined(_shifted(a, False) - _shifted(b, False), _low(a) - _low(b))


def _product(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """In unsigned 64 bits, which hold a product of two halves."""
    low_a, low_b = _unsigned(_low(a)), _unsigned(_low(b))
    crossed = _low(_unsigned(_low(_shifted(_signed(a), False))) * low_b)
    crossed = crossed + _low(_unsigned(_low(_shifted(_signed(b), False))) * low_a)
    return _joined(crossed, low_a * low_b)


def _unsigned(x: PrimExpr) -> PrimExpr:
    """Of a number that is not negative."""
    return x.astype("uint64")


def _unsigned_difference(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return _signed(a) - _signed(b) if str(a.ty.dtype) == "uint64" else a - b


wrapped_add = _wrapped(lambda a, b: a + b, _sum)
wrapped_subtract = _wrapped(_unsigned_difference, _difference)
wrapped_multiply = _wrapped(lambda a, b: a * b, _product)


def negated(x: PrimExpr) -> PrimExpr:
    """-x, which wraps for the least integer."""
    return wrapped_subtract(tirx.const(0, str(x.ty.dtype)), x)
