"""Det: https://onnx.ai/onnx/operators/onnx__Det.html. Gaussian elimination with the largest pivot of each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import PrimExpr, Value, as_int, tensor_dtype, tensor_shape
from .precision import cast_to, widened
from .shape import product


@converter("Det", since=11)
def determinant(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    dims = tensor_shape(inputs[0])
    if len(dims) < 2:
        raise ConversionError(f"needs matrices, found shape {list(dims)}")
    size = same_dim(ctx, dims[-2:], "the rows and columns of a matrix")
    dtype = tensor_dtype(inputs[0])
    if never_has_elements(dims[:-2]):
        return zeros(ctx, dims[:-2], dtype)
    if as_int(size) == 0:  # a product of no pivots
        one = tirx.const(1, dtype)
        return ctx.te(lambda shape: te.compute(prim_list(shape), lambda *_: one), list(dims[:-2]), name="ones")
    flat = ctx.reshape(widened(ctx, inputs[0]), [ctx.simplify(product(dims[:-2])), size, size])
    both = ctx.te(_eliminate, flat, name="determinant")
    result = ctx.reshape(ctx.emit(relax.TupleGetItem(both, 0)), dims[:-2])
    return cast_to(ctx, ctx.tensor(result), dtype)


def _eliminate(x: te.Tensor) -> list[te.Tensor]:
    """The determinants of [batch, n, n], and scratch memory. That of a matrix without elements is 1."""
    batch, size = prim(x.shape[0]), prim(x.shape[1])
    dtype = str(x.dtype)

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        source, out, work = (T.buffer_proxy(buffer) for buffer in (*ins, *outs))
        with IRBuilder() as builder, T.parallel(prim(0), batch) as b:
            base = T.bind(b * size * size)
            with T.serial(prim(0), size * size) as i:
                work[base + i] = source[base + i]
            out[b] = tirx.const(1, dtype)
            best = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
            with T.serial(prim(0), size) as k:
                _pivot(work, out, best, base, b, k, size)
                pivot = T.bind(work[base + k * size + k])
                out[b] = out[b] * pivot
                with T.serial(k + 1, size) as row:
                    # A column of zeros has made the result 0 already.
                    zero = tirx.EQ(pivot, tirx.const(0, dtype))
                    factor = T.bind(work[base + row * size + k] / tirx.Select(zero, tirx.const(1, dtype), pivot))
                    with T.serial(k, size) as column:
                        at = T.bind(base + row * size + column)
                        work[at] = work[at] - factor * work[base + k * size + column]
        return builder.get()

    return te.extern([[batch], x.shape], [x], body, dtype=[dtype, dtype], name="determinant")


def _pivot(work: Any, out: Any, best: Any, base: PrimExpr, b: PrimExpr, k: PrimExpr, size: PrimExpr) -> None:
    """Bring the row with the largest element in column ``k`` to row ``k``."""

    def magnitude(row: PrimExpr) -> PrimExpr:
        return tirx.abs(work[base + row * size + k])

    best[0] = k
    with T.serial(k + 1, size) as row, T.If(magnitude(row) > magnitude(best[0])), T.Then():
        best[0] = row
    with T.If(best[0] != k), T.Then():
        out[b] = tirx.const(0, str(out.dtype)) - out[b]
        with T.serial(k, size) as column:
            kept = T.bind(work[base + k * size + column])
            work[base + k * size + column] = work[base + best[0] * size + column]
            work[base + best[0] * size + column] = kept
