"""Put every dim before its use and every check of sizes before the kernels that rely on it.

Fusion orders its groups by the tensors that they exchange. It doesn't see that a kernel needs a dim which a match
binds, nor that a match is there to stop the run before sizes that disagree are read out of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from .bindings import each_function, typed


@each_function
def order_bindings(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many bindings moved. Only dataflow blocks are touched: fusion works in those."""
    function = mod[name]
    outside = set().union(*(_variables(param.ty) for param in function.params))
    blocks, moved = [], 0
    for block in function.body.blocks:
        bindings = list(block.bindings)
        if isinstance(block, relax.DataflowBlock):
            ordered = [bindings[i] for i in _order(bindings, outside)]
            moved += sum(a is not b for a, b in zip(ordered, bindings, strict=True))
            block = relax.DataflowBlock(ordered)
        blocks.append(block)
        outside |= {var for b in bindings if isinstance(b, relax.MatchCast) for var in _variables(b.ty)}
    if not moved:
        return mod, 0
    body = typed(blocks, function.body.body)
    mod = mod.clone()
    mod[name] = relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
    return mod, moved


def _variables(node: Any) -> set[Any]:
    """All variables in an expression or type: tensors and dims."""
    found: set[Any] = set()

    def visit(var: Any) -> Any:
        found.add(var)
        return var

    tvm_ffi.structural_map(node, (tvm.ir.Var, visit), order="pre")
    return found


def _order(bindings: Sequence[relax.Binding], outside: set[Any]) -> list[int]:
    """Indices in their new order: the old one, but needs first, and matches as soon as they can be."""
    needs = _needs(bindings, outside)
    eager = _eager(bindings, needs)
    done: dict[int, None] = {}

    def put(index: int) -> None:
        stack = [index]
        while stack:
            current = stack[-1]
            missing = [need for need in needs[current] if need not in done and need not in stack]
            if missing:
                stack.append(missing[0])
            else:
                done[stack.pop()] = None

    def put_ready() -> None:
        for index in eager:
            if index not in done and needs[index] <= done.keys():
                done[index] = None

    put_ready()
    for index in range(len(bindings)):
        if index not in done:
            put(index)
            put_ready()
    return list(done)


def _needs(bindings: Sequence[relax.Binding], outside: set[Any]) -> list[set[int]]:
    """For each binding those that bind a tensor or a dim that it uses."""
    makers = {binding.var: i for i, binding in enumerate(bindings)}
    for i, binding in enumerate(bindings):
        if isinstance(binding, relax.MatchCast):
            for var in _variables(binding.ty) - outside:
                makers.setdefault(var, i)
    used = [_variables(b.value) | (_variables(b.ty) if isinstance(b, relax.MatchCast) else set()) for b in bindings]
    return [{makers[var] for var in variables if var in makers} - {i} for i, variables in enumerate(used)]


def _eager(bindings: Sequence[relax.Binding], needs: Sequence[set[int]]) -> list[int]:
    """Matches, and what only serves to compute sizes for them."""
    wanted = {i for i, binding in enumerate(bindings) if isinstance(binding, relax.MatchCast)}
    for i in reversed(range(len(bindings))):
        if i in wanted:
            wanted |= {need for need in needs[i] if _is_light(bindings[need])}
    return sorted(wanted)


def _is_light(binding: relax.Binding) -> bool:
    """A shape, or an operator that makes one or its tensor of sizes from dims alone."""
    value = binding.value
    if isinstance(value, relax.ShapeExpr) or isinstance(binding.var.ty, relax.ShapeType):
        return True
    if not (isinstance(value, tvm.ir.Call) and value.op == tvm.ir.Op.get("relax.call_tir")):
        return False
    return all(isinstance(arg.ty, relax.ShapeType) or tvm.ir.is_prim_expr(arg) for arg in value.args[1].fields)
