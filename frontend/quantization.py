"""The arithmetic of linear quantization, shared by the quantized operators: ``real = (integer - zero) * scale``.

https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html. Rounding is half to even; what leaves the integer type's
range saturates; products and sums of integers are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from ..contract import QUANTIZATION, SCALE, ZERO
from ..errors import ConversionError
from .arith import floordiv
from .context import Context, prim_list
from .ops.broadcasting import elementwise
from .values import PrimExpr, Value, as_int, tensor_dtype, tensor_shape

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
"""What can be quantized to."""


def refuse_other_types(dtype: str, taken: Sequence[str], what: str) -> None:
    if dtype not in taken:
        raise ConversionError(f"{what} of type {dtype} is not supported yet; {', '.join(taken)} are")


def zero_or(value: Value | None, dtype: str) -> Value:
    """The zero point, 0 where it is left out."""
    return np.array(0, dtype) if value is None else value


def with_places(ctx: Context, data: Value, axis: int, parameter: Value) -> Value:
    """The tensor with as many places along ``axis`` as there are scales: checked at run time where they are open."""
    dims, own = list(tensor_shape(data)), tensor_shape(parameter)
    if len(own) != 1 or as_int(own[0]) in (None, 1) or not -len(dims) <= axis < len(dims):
        return data
    if isinstance(data, np.ndarray) or as_int(dims[axis]) is not None:
        return data
    dims[axis] = own[0]
    return ctx.builder.match_cast(data, relax.TensorType(prim_list(dims), tensor_dtype(data)))


def fitted(ctx: Context, parameter: Value, dims: Sequence[PrimExpr], axis: int, block: int = 0) -> Value:
    """A scale or zero point in a shape that broadcasts to ``dims``: one number, one for each place of ``axis``, or one
    for every ``block`` places of it."""
    own = tensor_shape(parameter)
    if all(as_int(dim) == 1 for dim in own):
        return ctx.reshape(parameter, [])
    if not -len(dims) <= axis < len(dims):
        raise ConversionError(f"axis {axis} doesn't exist in a tensor of rank {len(dims)}")
    axis %= len(dims)
    if block:
        return _by_blocks(ctx, parameter, dims, axis, block)
    if len(own) != 1 or not ctx.equal(own[0], dims[axis]):
        raise ConversionError(f"scales or zero points of shape {list(own)} don't fit axis {axis} of {list(dims)}")
    return ctx.reshape(parameter, [own[0] if i == axis else 1 for i in range(len(dims))])


def _by_blocks(ctx: Context, parameter: Value, dims: Sequence[PrimExpr], axis: int, block: int) -> Value:
    own = tensor_shape(parameter)
    needed = [floordiv(dim + block - 1, block) if i == axis else dim for i, dim in enumerate(dims)]
    if len(own) != len(dims) or not all(ctx.equal(a, b) for a, b in zip(own, needed, strict=True)):
        raise ConversionError(f"scales or zero points of shape {list(own)} for {list(needed)} blocks of {block}")
    size = as_int(dims[axis])
    if isinstance(parameter, np.ndarray) and size is not None:
        return np.repeat(parameter, block, axis).take(range(size), axis)

    def repeated(data: te.Tensor, shape: list) -> te.Tensor:
        def element(*index: tirx.Var) -> PrimExpr:
            return data(*(tirx.floordiv(i, block) if n == axis else i for n, i in enumerate(index)))

        return te.compute(shape, element, name="repeated")

    return ctx.te(repeated, parameter, list(dims))


def dequantize(ctx: Context, value: Value, scale: Value, zero: Value) -> Value:
    """(value - zero) * scale in float32; the parameters broadcast. Computed now where all are known.

    But bytes with two dims or more stay integers: they may be the weights of an integer kernel.
    """
    if (
        isinstance(value, np.ndarray)
        and isinstance(scale, np.ndarray)
        and isinstance(zero, np.ndarray)
        and not _may_be_weights(value)
    ):
        return np.asarray((value.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32))

    def scalar(x: PrimExpr, by: PrimExpr, offset: PrimExpr) -> PrimExpr:
        return (x.astype("float32") - offset.astype("float32")) * by.astype("float32")

    return elementwise(ctx, [value, scale, zero], scalar, None, "dequantize", _marks("dequantize", scale, zero))


def _may_be_weights(value: np.ndarray) -> bool:
    return value.ndim > 1 and value.size > 0 and value.dtype.name in ("int8", "uint8")


def _marks(kind: str, scale: Value, zero: Value) -> dict[str, Any] | None:
    """What tells the passes which quantization a kernel is, where its parameters are known."""
    if not isinstance(scale, np.ndarray) or not isinstance(zero, np.ndarray):
        return None
    values = {SCALE: scale.astype(np.float32), ZERO: zero.astype(np.int32)}
    return {QUANTIZATION: kind, **{key: tvm.runtime.tensor(np.ascontiguousarray(v)) for key, v in values.items()}}


def quantize(ctx: Context, value: Value, scale: Value, zero: Value, precision: str = "float32") -> relax.Expr:
    """saturate(round(value / scale) + zero) in the zero point's type; the quotient is rounded to ``precision``."""
    dtype = tensor_dtype(zero)

    def scalar(x: PrimExpr, by: PrimExpr, offset: PrimExpr) -> PrimExpr:
        quotient = x.astype("float32") / by.astype("float32")
        return saturated(quotient.astype(precision).astype("float32"), offset, dtype)

    marks = _marks("quantize", scale, zero) if precision == "float32" else None
    return elementwise(ctx, [value, scale, zero], scalar, None, "quantize", marks)


def requantize(ctx: Context, sums: Value, scale: Value, zero: Value) -> relax.Expr:
    """saturate(round(sums * scale) + zero) of int32 sums in the zero point's type."""
    dtype = tensor_dtype(zero)

    def scalar(x: PrimExpr, by: PrimExpr, offset: PrimExpr) -> PrimExpr:
        return saturated(x.astype("float32") * by.astype("float32"), offset, dtype)

    return elementwise(ctx, [sums, scale, zero], scalar, None, "requantize")


def saturated(x: PrimExpr, zero: PrimExpr, dtype: str) -> PrimExpr:
    """A float32 rounded, moved by ``zero`` and held inside ``dtype``; NaN becomes the least number.

    The clamp comes before the conversion, which has no defined result for what an int32 can't hold.
    """
    low, high = LIMITS[dtype]
    offset = zero.astype("int32")
    least, most = (tirx.const(limit, "int32") - offset for limit in (low, high))
    bounded = tirx.min(tirx.max(tirx.nearbyint(x), least.astype("float32")), most.astype("float32"))
    return (bounded.astype("int32") + offset).astype(dtype)


def combined_scale(ctx: Context, left: Value, right: Value, output: Value) -> Value:
    """left * right / output in float32, in this order: what integer sums are multiplied by."""
    return from_floats(ctx, lambda a, b, c: a * b / c, left, right, output)


def from_floats(ctx: Context, function: Callable[..., Any], *values: Value) -> Value:
    """``function`` (of arithmetic operators alone) of values in float32: computed now where all of them are known."""
    known = [value.astype(np.float32) for value in values if isinstance(value, np.ndarray)]
    if len(known) == len(values):
        return np.asarray(function(*known))
    return elementwise(ctx, values, lambda *x: function(*(item.astype("float32") for item in x)), None, "parameter")


def saturated_total(x: PrimExpr, dtype: str) -> PrimExpr:
    """A float32 that holds its zero point already, rounded and held inside ``dtype``.

    Differs from ``saturated`` where a half meets an odd zero point.
    """
    low, high = (tirx.const(limit, "float32") for limit in LIMITS[dtype])
    return tirx.min(tirx.max(tirx.nearbyint(x), low), high).astype("int32").astype(dtype)
