"""Keeping shapes known: Relax operators are used where they infer the dims that ONNX defines."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax, te, tirx

from ..errors import ConversionError
from .arith import equal, known
from .context import Context, prim_list
from .values import PrimExpr, as_int


def emit_if_shape(ctx: Context, expr: relax.Expr, shape: Sequence[PrimExpr]) -> relax.Var | None:
    """Emit a Relax operator if the shape that Relax infers is provably ``shape``; else emit nothing."""
    inferred = ctx.builder.normalize(expr).ty
    if not isinstance(inferred, relax.TensorType) or not isinstance(inferred.shape, relax.ShapeExpr):
        return None
    dims = list(inferred.shape.values)
    if len(dims) != len(shape) or not all(ctx.equal(a, b) for a, b in zip(dims, shape, strict=True)):
        return None
    return ctx.emit(expr)


def never_has_elements(dims: Sequence[PrimExpr]) -> bool:
    """Whether a tensor of these dims is empty whatever the open ones turn out to be."""
    return any(as_int(dim) == 0 for dim in dims)


def zeros(ctx: Context, dims: Sequence[PrimExpr], dtype: str) -> relax.Var:
    """A tensor of zeros; of use where nothing has to be computed."""
    zero = tirx.const(0, dtype)
    return ctx.te(lambda shape: te.compute(prim_list(shape), lambda *_: zero, name="zeros"), list(dims), name="zeros")


def same_dim(ctx: Context, dims: Sequence[PrimExpr], what: str) -> PrimExpr:
    """The one size that all of ``dims`` must have; refuses sizes that differ, checks unknown ones at run time."""
    fixed = sorted({int(dim) for dim in dims if as_int(dim) is not None})
    if len(fixed) > 1:
        raise ConversionError(f"{what} must agree, found {' and '.join(str(size) for size in fixed)}")
    chosen = fixed[0] if fixed else dims[0]
    for dim in dims:
        if not known(dim, chosen) and not ctx.equal(dim, chosen):
            ctx.check(equal(dim, chosen))
    return chosen
