"""Cast and CastLike. https://onnx.ai/onnx/operators/onnx__Cast.html

Floats outside the integer type's range, which ONNX leaves open, give what NumPy gives on x86: 8- and 16-bit integers
take the low bits of the 32-bit conversion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from tvm import relax, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, tensor_dtype
from .elementwise import is_integer, is_nan
from .precision import FLOATS
from .unary import map_elements

NUMBER_TYPES = {*FLOATS, "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


@converter("Cast")
def cast(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    wanted = node.attr("to")
    to = ir.DataType[wanted] if isinstance(wanted, str) else ir.DataType(wanted)
    if to == ir.DataType.STRING:
        raise ConversionError("casts to strings are not supported")
    return convert_dtype(ctx, inputs[0], to.numpy().name)


@converter("CastLike")
def cast_like(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    return convert_dtype(ctx, inputs[0], tensor_dtype(inputs[1]))


def convert_dtype(ctx: Context, value: Value, dtype: str) -> Value:
    """The value's elements as ``dtype``."""
    source = tensor_dtype(value)
    for name in (source, dtype):
        if name not in NUMBER_TYPES:
            raise ConversionError(f"casts from {source} to {dtype} are not supported")
    if source == dtype:
        return value
    if dtype == "bool":
        zero = tirx.const(0, source)
        return map_elements(ctx, value, lambda x: tirx.Or(tirx.NE(x, zero), is_nan(x)), "cast")
    if source in FLOATS and is_integer(dtype):
        return map_elements(ctx, value, lambda x: float_to_int(x, dtype), "cast")
    return ctx.emit(relax.op.astype(ctx.tensor(value), dtype))


def float_to_int(x: PrimExpr, dtype: str) -> PrimExpr:
    """Truncation towards zero through a type that holds the value where its low bits count."""
    if str(x.ty.dtype) not in ("float32", "float64"):
        x = x.astype("float32")
    bits = int("".join(c for c in dtype if c.isdigit()))
    if dtype == "uint64":
        limit = tirx.const(float(np.float32(2.0**63)), str(x.ty.dtype))
        low = x.astype("int64").astype("uint64")
        high = (x - limit).astype("int64").astype("uint64") + tirx.const(1 << 63, "uint64")
        return tirx.Select(tirx.LT(x, limit), low, high)
    carrier = "int32" if bits < 32 else "int64" if dtype == "uint32" else dtype
    return x.astype(carrier).astype(dtype)
