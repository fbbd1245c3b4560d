"""Softmax, normalisations and reductions along the last axis, as stages that one loop over the rows goes through.

Data is [*rows, K] with at least one row axis; ``lanes`` is the width of a vector in float32 elements. float16 and
bfloat16 are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from .blocks import as_int
from .row_reduce import MAX, MIN, PRODUCT, SUM, Reducer, is_float, reduce_rows, stage, whole_vectors

Expr = Any

REDUCERS: dict[str, Reducer] = {"sum": SUM, "mean": SUM, "max": MAX, "min": MIN, "prod": PRODUCT}

_WIDER = {"float16": "float32", "bfloat16": "float32"}
_HALF_AS_MANY = {"float64", "int64", "uint64"}


def softmax(data: te.Tensor, lanes: int) -> te.Tensor:
    """``exp(x - max) / sum``. A row of -inf alone gives NaN, as does one that holds +inf or NaN."""
    row = _Row(data, lanes)
    powers, tail_powers, total = row.exponentials(row.peak())
    inverse = stage(row.rows, lambda *i: tirx.const(1, row.dtype) / total(*i), "softmax_inverse", len(row.rows))

    def share(*i: tirx.Var) -> Expr:
        power = powers(*i)
        if tail_powers is not None:
            from_tail = tail_powers(*i[:-1], i[-1] - row.length + row.lanes)
            power = tirx.if_then_else(tirx.likely(i[-1] < row.whole), power, from_tail)
        return power * inverse(*i[:-1])

    return _result(data, "softmax", share)


def log_softmax(data: te.Tensor, lanes: int) -> te.Tensor:
    """``x - max - log(sum(exp(x - max)))``."""
    row = _Row(data, lanes)
    peak = row.peak()
    total = row.exponentials(peak)[2]
    log_total = stage(row.rows, lambda *i: tirx.log(total(*i)), "softmax_log", len(row.rows))
    value = _element(data)
    return _result(data, "log_softmax", lambda *i: (value(*i) - peak(*i[:-1])) - log_total(*i[:-1]))


class _Row:
    """A row as whole vectors and one more for the elements left over, so that no exponential is a scalar one.

    -inf in the last vector's spare lanes is seen neither by the maximum nor by the sum of exponentials.
    """

    def __init__(self, data: te.Tensor, lanes: int):
        *self.rows, self.length = data.shape
        self.dtype = _working(data)
        self.lanes = _width(self.dtype, lanes)
        self.value = _element(data)
        lowest = tirx.const(float("-inf"), self.dtype)
        self.whole, self.tail = whole_vectors(self.value, self.rows, self.length, self.lanes, lowest, "softmax_rest")

    def _reduce(self, value: Callable[..., Expr], rest: te.Tensor | None, reducer: Reducer, name: str) -> te.Tensor:
        return reduce_rows(value, self.rows, self.whole, self.dtype, reducer, self.lanes, name, rest)

    def peak(self) -> te.Tensor:
        """The largest element; should it lose a NaN, the sum of exponentials is NaN all the same."""
        return self._reduce(self.value, self.tail, MAX, "softmax_max")

    def exponentials(self, peak: te.Tensor) -> tuple[te.Tensor, te.Tensor | None, te.Tensor]:
        """``exp(x - peak)`` in whole vectors, of the last vector, and their sum."""
        n = len(self.rows)
        tail, rest = self.tail, None
        powers = stage([*self.rows, self.whole], lambda *i: tirx.exp(self.value(*i) - peak(*i[:-1])), "softmax_exp", n)
        if tail is not None:
            shape = [*self.rows, self.lanes]
            rest = stage(shape, lambda *i: tirx.exp(tail(*i) - peak(*i[:-1])), "softmax_rest_exp", n)
        return powers, rest, self._reduce(powers, rest, SUM, "softmax_sum")


def layer_norm(data: te.Tensor, scale: te.Tensor, shift: te.Tensor, epsilon: float, lanes: int) -> te.Tensor:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``; scale and shift are [K].

    Two passes: the sum of squares of deviations has none of the cancellation that ``E[x^2] - E[x]^2`` has.
    """
    mean = _mean(data, lanes, "mean")
    variance = _variance(data, mean, lanes)
    rows = list(data.shape[:-1])
    inverse = stage(rows, lambda *row: _inverse_root(variance(*row), epsilon), "inverse_deviation", len(rows))
    value, by, plus = _element(data), _element(scale), _element(shift)

    def normalized(*i: tirx.Var) -> Expr:
        return (value(*i) - mean(*i[:-1])) * inverse(*i[:-1]) * by(i[-1]) + plus(i[-1])

    return _result(data, "layer_norm", normalized)


def rms_norm(data: te.Tensor, scale: te.Tensor, epsilon: float, lanes: int) -> te.Tensor:
    """``x / sqrt(mean(x^2) + epsilon) * scale``; scale is [K]."""
    *rows, length = data.shape
    value, by, dtype = _element(data), _element(scale), _working(data)
    total = reduce_rows(lambda *i: value(*i) * value(*i), rows, length, dtype, SUM, _width(dtype, lanes), "squares")
    inverse = stage(
        rows, lambda *row: _inverse_root(total(*row) / _count(length, dtype), epsilon), "inverse_rms", len(rows)
    )
    return _result(data, "rms_norm", lambda *i: value(*i) * inverse(*i[:-1]) * by(i[-1]))


def reduction(data: te.Tensor, kind: str, kept: int, lanes: int) -> te.Tensor:
    """[*rows] and ``kept`` axes of length 1 behind: sum, mean, max, min, prod, variance or std of each row."""
    *rows, length = data.shape
    dtype = _working(data)
    if kind == "mean":
        total = _mean(data, lanes, "mean")
    elif kind in ("variance", "std"):
        total = _variance(data, _mean(data, lanes, "mean"), lanes)
    else:
        total = reduce_rows(_element(data), rows, length, dtype, REDUCERS[kind], _width(dtype, lanes), f"row_{kind}")
        if kind in ("max", "min") and is_float(dtype):
            total = _or_nan(data, total, lanes)
    finish = tirx.sqrt if kind == "std" else lambda value: value
    shape = [*rows, *[1] * kept]
    return stage(shape, lambda *i: finish(total(*i[: len(rows)])).astype(data.dtype), kind, len(rows), last=True)


def _or_nan(data: te.Tensor, best: te.Tensor, lanes: int) -> te.Tensor:
    """``best``, but NaN for rows that hold one: the only floats above infinity when bits without sign are compared."""
    *rows, length = data.shape
    dtype, value = _working(data), _element(data)
    bits = dtype.replace("float", "int")
    infinity = {"int32": 0x7F800000, "int64": 0x7FF0000000000000}[bits]

    def magnitude(*i: tirx.Var) -> Expr:
        return tirx.reinterpret(bits, value(*i)) & tirx.max_value(bits)

    top = reduce_rows(magnitude, rows, length, bits, MAX, _width(dtype, lanes), "row_top")

    def checked(*row: tirx.Var) -> Expr:
        return tirx.Select(top(*row) > tirx.const(infinity, bits), tirx.const(float("nan"), dtype), best(*row))

    return stage(rows, checked, "row_checked", len(rows))


def _mean(data: te.Tensor, lanes: int, name: str) -> te.Tensor:
    *rows, length = data.shape
    dtype = _working(data)
    total = reduce_rows(_element(data), rows, length, dtype, SUM, _width(dtype, lanes), f"{name}_sum")
    return stage(rows, lambda *row: total(*row) / _count(length, dtype), name, len(rows))


def _variance(data: te.Tensor, mean: te.Tensor, lanes: int) -> te.Tensor:
    *rows, length = data.shape
    dtype, value = _working(data), _element(data)

    def square(*i: tirx.Var) -> Expr:
        return (value(*i) - mean(*i[:-1])) * (value(*i) - mean(*i[:-1]))

    total = reduce_rows(square, rows, length, dtype, SUM, _width(dtype, lanes), "squares")
    return stage(rows, lambda *row: total(*row) / _count(length, dtype), "variance", len(rows))


def _inverse_root(value: Expr, epsilon: float) -> Expr:
    dtype = str(value.ty.dtype)
    return tirx.const(1, dtype) / tirx.sqrt(value + tirx.const(epsilon, dtype))


def _count(length: Expr, dtype: str) -> Expr:
    known = as_int(length)
    return tirx.const(known, dtype) if known is not None else length.astype(dtype)


def _width(dtype: str, lanes: int) -> int:
    return lanes // 2 if dtype in _HALF_AS_MANY else lanes


def _working(data: te.Tensor) -> str:
    return _WIDER.get(str(data.dtype), str(data.dtype))


def _element(data: te.Tensor) -> Callable[..., Expr]:
    dtype = _working(data)
    return data if dtype == str(data.dtype) else lambda *index: data(*index).astype(dtype)


def _result(data: te.Tensor, name: str, value: Callable[..., Expr]) -> te.Tensor:
    """The stage that gives each element of the result, in the data's type."""
    shape = list(data.shape)
    return stage(shape, lambda *i: value(*i).astype(data.dtype), name, len(shape) - 1, last=True)
