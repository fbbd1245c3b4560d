"""If: https://onnx.ai/onnx/operators/onnx__If.html. Only the branch that is taken does any work.

A branch becomes a nested block of its own, never hoisted: checks and reads of dims in it run only when it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from ...errors import ConversionError
from ..branch_ranks import BranchesDiffer, require
from ..context import Context, prim_list
from ..loops import scalar_condition
from ..node import Node
from ..registry import converter
from ..sequences import RunTimeSequence, common_rank, emitted, is_sequence
from ..subgraphs import run_subgraph, subgraph
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape


@converter("If")
def if_(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Any]:
    condition = inputs[0]
    known = ctx.constant(condition)
    if known is not None:
        return _inline(ctx, node, "then_branch" if known.reshape(-1)[0] else "else_branch")
    chosen = ctx.converter.chosen_branches.get(node.ir)
    if chosen is not None:
        require(ctx, condition, chosen)
        return _inline(ctx, node, chosen)
    flag = scalar_condition(ctx, condition)
    (yes, taken), (no, other) = (_branch(ctx, node, name) for name in ("then_branch", "else_branch"))
    for left, right in zip(taken, other, strict=True):
        if left.dtype != right.dtype or left.sequence != right.sequence or not _same_rank(left, right):
            hint = "fix the dims that decide between them (--shape)"
            raise BranchesDiffer(f"the branches' outputs differ in type: {left} and {right}", hint=hint)
    result = ctx.emit(relax.If(flag, yes, no))
    fields = [ctx.emit(relax.TupleGetItem(result, i)) for i in range(len(taken))]
    return [_result(ctx, *triple) for triple in zip(fields, taken, other, strict=True)]


@dataclass(frozen=True)
class Result:
    """What one branch gives for one output; of a sequence, what its items are: their rank may be unknown (None)."""

    dtype: str
    dims: tuple[PrimExpr, ...]
    sequence: bool = False
    rank: int | None = None

    def __str__(self) -> str:
        return f"sequence of {self.dtype}" if self.sequence else f"{self.dtype}{list(self.dims)}"


def _same_rank(left: Result, right: Result) -> bool:
    return len(left.dims) == len(right.dims) and (None in (left.rank, right.rank) or left.rank == right.rank)


def _described(value: Any) -> Result:
    if is_sequence(value):
        return Result(value.dtype, (), True, value.rank)
    return Result(tensor_dtype(value), tensor_shape(value))


def _result(ctx: Context, var: relax.Var, left: Result, right: Result) -> Any:
    if left.sequence:
        return RunTimeSequence(var, left.dtype, common_rank(left.rank, right.rank))
    return _known(ctx, var, left.dims, right.dims)


def _inline(ctx: Context, node: Node, name: str) -> list[Value]:
    """The branch's nodes in place, when the condition is known."""
    if len(subgraph(node, name).outputs) < node.output_count:
        raise ConversionError(f"{name} must be a graph with {node.output_count} outputs")
    return run_subgraph(ctx, node, name)[: node.output_count]


def _branch(ctx: Context, node: Node, name: str) -> tuple[relax.SeqExpr, list[Result]]:
    builder = ctx.builder
    builder.begin_scope(None)
    builder._begin_binding_block()
    try:
        with ctx.branch():
            outputs = [emitted(ctx, value) for value in _inline(ctx, node, name)]
        result = builder.emit(relax.Tuple([value.handle if is_sequence(value) else value for value in outputs]))
    finally:
        block = builder._end_block()
        builder.end_scope()
    return relax.SeqExpr([block], result), [_described(value) for value in outputs]


def _known(ctx: Context, value: relax.Var, left: Sequence[PrimExpr], right: Sequence[PrimExpr]) -> relax.Var:
    """Where the branches' dims differ, those of the branch taken are bound to fresh names."""
    if isinstance(value.ty.shape, relax.ShapeExpr):
        return value
    dims = [a if ctx.equal(a, b) else _fresh_size(ctx) for a, b in zip(left, right, strict=True)]
    return ctx.builder.match_cast(value, relax.TensorType(prim_list(dims), value.ty.dtype))


def _fresh_size(ctx: Context) -> PrimExpr:
    dim = ctx.fresh_dim()
    ctx.analyzer.bind(dim, tvm.ir.Range(0, 1 << 40))
    return dim
