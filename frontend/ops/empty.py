"""Reductions over nothing: loops of no iterations leave their output unwritten, so its value is put there apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax, te, tirx

from ..context import Context, prim_list
from ..values import PrimExpr, as_int, tensor_dtype, tensor_shape
from .shape import product

_BITS = {"float16": "int16", "float32": "int32", "float64": "int64"}


def filled_if_empty(
    ctx: Context, result: relax.Expr, reduced: Sequence[PrimExpr], identity: Callable[[str], PrimExpr]
) -> relax.Expr:
    """``result``, or ``identity`` (of its dtype) everywhere if one of the ``reduced`` dims is 0 when the model runs.

    Nothing is added where that can't be, or where the output is then empty too.
    """
    count = ctx.simplify(product(reduced))
    value = identity(tensor_dtype(result))
    if as_int(count) == 0:
        hidden = opaque(value)
        return ctx.te(
            lambda shape: te.compute(shape, lambda *_: hidden, name="identity"),
            prim_list(tensor_shape(result)),
            name="identity",
        )
    if as_int(count) is not None or _harmless(ctx, reduced, tensor_shape(result)):
        return result

    def kernel(data: te.Tensor, size: PrimExpr) -> te.Tensor:
        empty = tirx.EQ(size, tirx.const(0, "int64"))
        return te.compute(data.shape, lambda *i: tirx.Select(empty, value, data(*i)), name="filled_if_empty")

    return ctx.te(kernel, result, count, name="filled_if_empty")


def opaque(value: PrimExpr) -> PrimExpr:
    """A float constant; 0 as 1 - 1, one of them given as bits: TVM breaks off at a division by a 0 that it sees."""
    dtype = str(value.ty.dtype)
    if dtype not in _BITS or value.value != 0:
        return value
    bits = int(np.asarray(1, dtype).view(_BITS[dtype]))
    return tirx.reinterpret(dtype, tirx.const(bits, _BITS[dtype])) - tirx.const(1, dtype)


def _harmless(ctx: Context, reduced: Sequence[PrimExpr], shape: Sequence[PrimExpr]) -> bool:
    zero = tirx.const(0, "int64")
    empty_output = [tirx.EQ(dim, zero) for dim in shape if as_int(dim) is None]
    return all(as_int(dim) is not None or ctx.prove(tirx.any(tirx.NE(dim, zero), *empty_output)) for dim in reduced)
