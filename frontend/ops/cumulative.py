"""CumSum and CumProd. https://onnx.ai/onnx/operators/onnx__CumSum.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ..arith import prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, symbolic, tensor_shape
from .broadcasting import Scalar
from .logical import where
from .precision import cast_to, in_float32
from .shape import normalized_axes, product
from .wrapping import wrapped_add, wrapped_multiply


@converter("CumSum", "CumProd")
def cumulative(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, axis = inputs
    dims = tensor_shape(data)
    if any(as_int(dim) == 0 for dim in dims):
        return data
    scan = _scan(ctx, node)
    known = ctx.constant(axis)
    if known is not None:
        (place,) = normalized_axes([int(known.reshape(-1)[0])], len(dims))
        return in_float32(ctx, data, lambda x: scan(x, place))
    return in_float32(ctx, data, lambda x: _chosen(ctx, [scan(x, place) for place in range(len(dims))], axis))


def _scan(ctx: Context, node: Node) -> Callable[[relax.Expr, int], relax.Expr]:
    adds = node.op_type == "CumSum"
    combine = wrapped_add if adds else wrapped_multiply
    reverse, exclusive = bool(node.attr("reverse", 0)), bool(node.attr("exclusive", 0))

    def scan(x: relax.Expr, axis: int) -> relax.Expr:
        dims = tensor_shape(x)
        rows = [ctx.simplify(product(dims[:axis])), dims[axis], ctx.simplify(product(dims[axis + 1 :]))]
        loops = Loops(combine, 0 if adds else 1, reverse, exclusive)
        return ctx.tensor(ctx.reshape(ctx.te(loops.kernel, ctx.reshape(x, rows), name="cumulative"), dims))

    return scan


@dataclass(frozen=True)
class Loops:
    """A running total along the middle axis of three, written out: rows in parallel, elements beside each other."""

    combine: Scalar
    identity: int
    reverse: bool
    exclusive: bool

    def kernel(self, x: te.Tensor) -> te.Tensor:
        outer, size, inner = (prim(dim) for dim in x.shape)

        def body(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> tirx.Stmt:
            loops = T.parallel(prim(0), outer), T.serial(prim(0), size), T.serial(prim(0), inner)
            with IRBuilder() as builder, loops[0] as o, loops[1] as k, loops[2] as i:
                here = size - 1 - k if self.reverse else k
                T.buffer_store(outs[0], self._element(ins[0], outs[0], (o, here, i), k > 0), [o, here, i])
            return builder.get()

        return te.extern([x.shape], [x], body, dtype=[str(x.dtype)], name="cumulative")

    def _element(self, x: Any, y: Any, place: tuple[PrimExpr, PrimExpr, PrimExpr], has_before: PrimExpr) -> PrimExpr:
        start = tirx.const(self.identity, str(x.dtype))
        o, here, i = place
        before = here + 1 if self.reverse else here - 1
        if self.exclusive:
            return tirx.if_then_else(has_before, self.combine(y[o, before, i], x[o, before, i]), start)
        return self.combine(tirx.if_then_else(has_before, y[o, before, i], start), x[o, here, i])


def _chosen(ctx: Context, candidates: Sequence[relax.Expr], axis: Value) -> relax.Expr:
    """The candidate for an axis that is known only at run time; the run fails if there is no such axis."""
    (place,) = ctx.ints(axis, "axis")
    count = len(candidates)
    ctx.check(tirx.all(place >= -count, place < count))
    result = candidates[-1]
    for index in range(count - 1):
        here = symbolic(tirx.Select(tirx.Or(place == index, place == index - count), prim(1), prim(0)))
        chosen = cast_to(ctx, ctx.tensor(here), "bool")
        result = where(ctx, chosen, candidates[index], result)
    return result
