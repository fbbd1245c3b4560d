"""What loops collect: rows written into one buffer, of known size or growing.

A buffer is the one thing here that is changed in place. Nobody else sees it before the loop is done: it is allocated by
an operator that TVM neither shares nor folds, or by growing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from .context import Context, prim_list
from .values import PrimExpr, as_int, tensor_dtype, tensor_shape

_OPAQUE = 8
"""TVM's mark of a function that fusion leaves alone: fused, it would compute the row into memory of its own first."""

FIRST_ROWS = 8
"""Rows of a growing buffer when it gets its first one."""


def allocate(ctx: Context, dtype: str, dims: Sequence[PrimExpr]) -> relax.Var:
    """Memory of its own without defined content."""
    shape = relax.ShapeExpr(prim_list(dims))
    return ctx.emit(relax.op.builtin.alloc_tensor(shape, dtype, 0, "global"))


def store(ctx: Context, buffer: relax.Expr, row: relax.Expr, at: PrimExpr) -> relax.Var:
    """``buffer`` [rows, ...] after ``row`` [...] was written into it, in place, at row ``at``."""
    function = ctx.builder.add_func(_store_function(tensor_dtype(row), tensor_shape(buffer)), "loop_store")
    return ctx.emit(relax.op.call_tir_inplace(function, [buffer, row, *prim_list([at])], [0], buffer.ty))


def _store_function(dtype: str, dims: Sequence[PrimExpr]) -> tirx.PrimFunc:
    sizes = [tirx.const(int(dim), "int64") if as_int(dim) is not None else tirx.Var(f"d{i}", "int64")
             for i, dim in enumerate(dims)]  # fmt: skip
    with IRBuilder() as builder, T.prim_func(private=True, s_tir=True):
        T.func_name("loop_store")
        T.func_attr({"tirx.noalias": True, "op_pattern": _OPAQUE})
        buffer = T.arg("buffer", T.buffer(sizes, dtype))
        row = T.arg("row", T.buffer(sizes[1:], dtype))
        at = T.arg("at", T.int64())
        # The first loop is of one iteration, so that there is one where rows have no dims.
        extents = [tirx.const(1, "int64"), *sizes[1:]]
        with T.grid(*extents) as loops, T.sblock("store"):
            loops = [loops] if isinstance(loops, tirx.Var) else list(loops)
            place, *index = [T.axis.spatial(extent, var) for extent, var in zip(extents, loops, strict=True)]
            value = row[tuple(index)] if index else row[()]
            T.reads(value)
            T.writes(buffer[(at + place, *index)])
            T.buffer_store(buffer, value, [at + place, *index])
    return builder.get()


def grown(ctx: Context, buffer: relax.Expr, row: relax.Expr, at: PrimExpr) -> relax.Expr:
    """``buffer`` if it has a row ``at``, else a copy with more rows, of the size of ``row``."""
    dims, sizes = tensor_shape(buffer), tensor_shape(row)
    rows = dims[0]

    def full(rows: PrimExpr, at: PrimExpr) -> te.Tensor:
        return te.compute((), lambda: at >= rows, name="full")

    def more(buffer: te.Tensor, rows: PrimExpr, sizes: list[PrimExpr]) -> te.Tensor:
        def element(row: tirx.Var, *index: tirx.Var) -> PrimExpr:
            return tirx.if_then_else(row < rows, buffer(row, *index), tirx.const(0, buffer.dtype))

        return te.compute([tirx.max(rows * 2, tirx.const(FIRST_ROWS, "int64")), *prim_list(sizes)], element)

    for dim, size in zip(dims[1:], sizes, strict=True):
        if not ctx.equal(dim, size):
            ctx.check(tirx.Or(tirx.EQ(rows, tirx.const(0, "int64")), tirx.EQ(*prim_list([dim, size]))))
    condition = ctx.te(full, rows, at)
    larger = _branch(ctx, lambda: ctx.te(more, buffer, rows, list(sizes), name="more_rows"))
    same = _branch(ctx, lambda: buffer)
    chosen = ctx.emit(relax.TupleGetItem(ctx.emit(relax.If(condition, larger, same)), 0))
    capacity = ctx.fresh_dim("rows")
    ctx.assume_dim(capacity)
    return ctx.builder.match_cast(chosen, relax.TensorType(prim_list([capacity, *sizes]), tensor_dtype(row)))


def _branch(ctx: Context, make: Callable[[], relax.Expr]) -> relax.SeqExpr:
    ctx.builder.begin_scope(None)
    ctx.builder._begin_binding_block()
    result = ctx.builder.emit(relax.Tuple([make()]))
    block = ctx.builder._end_block()
    ctx.builder.end_scope()
    return relax.SeqExpr([block], result)


def first_rows(ctx: Context, buffer: relax.Expr, count: PrimExpr) -> relax.Var:
    """The rows that were written, without those in store."""

    def rows(buffer: te.Tensor, count: PrimExpr) -> te.Tensor:
        return te.compute([count, *buffer.shape[1:]], lambda *index: buffer(*index), name="rows")

    return ctx.te(rows, buffer, count)


def unknown_shape(dtype: str, rank: int) -> relax.TensorType:
    return relax.TensorType(None, dtype, ndim=rank)
