"""MatMulInteger and QLinearMatMul: https://onnx.ai/onnx/operators/onnx__MatMulInteger.html."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from ..context import Context
from ..integer_sums import BYTES, EXACT, added, as_bytes, as_int32, exact_parts, fits_weights, largest, shifted
from ..node import Node
from ..quantization import combined_scale, refuse_other_types, requantize
from ..registry import converter
from ..values import Value, as_int, rank, tensor_dtype, tensor_shape
from .matmul import matmul
from .slice import Cut, take_cuts


@converter("MatMulInteger", since=10)
def matmul_integer(ctx: Context, _node: Node, inputs: Sequence[Value | None]) -> Value:
    left, right, left_zero, right_zero = [*inputs, None, None][:4]
    assert left is not None and right is not None
    return integer_matmul(ctx, left, right, by_row(ctx, left_zero, left), right_zero)


@converter("QLinearMatMul", since=10)
def qlinear_matmul(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    left, left_scale, left_zero, right, right_scale, right_zero, scale, zero = inputs
    left_scale, left_zero, scale, zero = (by_row(ctx, value, left) for value in (left_scale, left_zero, scale, zero))
    assert left_scale is not None and scale is not None and zero is not None
    refuse_other_types(tensor_dtype(zero), BYTES, "a quantized product")
    sums = integer_matmul(ctx, left, right, left_zero, right_zero)
    return requantize(ctx, sums, combined_scale(ctx, left_scale, right_scale, scale), zero)


def by_row(ctx: Context, parameter: Value | None, matrix: Value) -> Value | None:
    """A scale or zero point of the left side: a vector of them counts its rows. One number loses its dims."""
    if parameter is None or rank(parameter) == 0:
        return parameter
    dims = tensor_shape(parameter)
    if all(as_int(dim) == 1 for dim in dims):
        return ctx.reshape(parameter, [])
    return ctx.reshape(parameter, [*dims, 1]) if len(dims) == 1 and rank(matrix) > 1 else parameter


def integer_matmul(
    ctx: Context, left: Value, right: Value, left_zero: Value | None, right_zero: Value | None
) -> relax.Expr:
    """(left - left_zero) x (right - right_zero) of 8-bit integers in int32; batch dims broadcast."""
    for value in (left, right):
        refuse_other_types(tensor_dtype(value), BYTES, "a factor of an integer product")
    direct = as_bytes(ctx, left, right, left_zero, right_zero, (0,)) if _is_layer(left, right) else None
    if direct is not None:
        sums = matmul(ctx, direct.data, direct.weight, "int32")
        return direct.less_zero(ctx, sums, direct.weight.sum(axis=0, dtype=np.int64))
    depth = as_int(tensor_shape(right)[-2 if rank(right) > 1 else 0])
    depth = as_int(tensor_shape(left)[-1]) if depth is None else depth
    parts = _parts(left, right, left_zero, right_zero, depth) if depth else None
    if parts is None:
        return matmul(ctx, shifted(ctx, left, left_zero, "int32"), shifted(ctx, right, right_zero, "int32"))
    a, b = shifted(ctx, left, left_zero), shifted(ctx, right, right_zero)
    if len(parts) == 1:
        return as_int32(ctx, matmul(ctx, a, b))
    axes = rank(a) - 1, rank(b) - 2 if rank(b) > 1 else 0
    return added(ctx, [as_int32(ctx, _product(ctx, (a, b), axes, part)) for part in parts])


def _is_layer(left: Value, right: Value) -> bool:
    """Rows of a known depth by a matrix."""
    return rank(left) > 1 and rank(right) == 2 and as_int(tensor_shape(left)[-1]) is not None


def _parts(
    left: Value, right: Value, left_zero: Value | None, right_zero: Value | None, depth: int
) -> list[tuple[int, int]] | None:
    """The parts of the terms whose sums float32 holds, None where there would be too many of them."""
    bound = largest(left, left_zero)
    weight = shifted_constant(right, right_zero)
    if weight is not None:
        columns = np.moveaxis(np.abs(weight), -2, 0) if weight.ndim > 1 else np.abs(weight)
        return exact_parts(depth, fits_weights(columns.reshape(depth, -1), bound))
    size = EXACT // (bound * largest(right, right_zero))
    return exact_parts(depth, lambda start, end: end - start <= size)


def shifted_constant(value: Value, zero: Value | None) -> np.ndarray | None:
    """``value - zero`` in int32 where both are known."""
    if not isinstance(value, np.ndarray) or not (zero is None or isinstance(zero, np.ndarray)):
        return None
    return value.astype(np.int32) - (0 if zero is None else zero.astype(np.int32))


def _product(ctx: Context, values: tuple[Value, Value], axes: tuple[int, int], part: tuple[int, int]) -> relax.Expr:
    left, right = _cut(ctx, values, axes, *part)
    return matmul(ctx, left, right)


def _cut(ctx: Context, values: tuple[Value, Value], axes: tuple[int, int], start: int, length: int) -> list[Value]:
    """The terms of one part; constants are cut here and now."""
    cuts = zip(values, axes, strict=True)
    return [
        value.take(range(start, start + length), axis)
        if isinstance(value, np.ndarray)
        else take_cuts(ctx, value, {axis: Cut(start, length, 1)})
        for value, axis in cuts
    ]
