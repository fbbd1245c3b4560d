"""Turn the straight parts of ``main`` into dataflow blocks, the form that operator fusion works on.

TVM's own conversion also reaches into the branches of an ``If``, where fusion then meets variables from outside that it
doesn't know.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from .bindings import bindings_of, each_function, typed

Run = tuple[bool, list[relax.Binding]]
"""(free of control flow and of calls with effects, the bindings)"""


@each_function
def to_dataflow(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and the number of dataflow blocks."""
    function = mod[name]
    runs = _runs(function)
    inner: dict[relax.Var, relax.Var] = {}
    read = set(relax.analysis.free_vars(function.body.body))
    for straight, bindings in reversed(runs):
        if straight:
            inner |= {b.var: relax.DataflowVar(b.var.name, b.var.ty) for b in bindings if b.var not in read}
        read |= {var for binding in bindings for var in relax.analysis.free_vars(binding.value)}
    blocks = [_block(straight, [_renamed(b, inner) for b in bindings]) for straight, bindings in runs]
    body = typed(blocks, function.body.body)
    mod = mod.clone()
    mod[name] = relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
    return mod, sum(straight for straight, _ in runs)


def _runs(function: relax.Function) -> list[Run]:
    """Maximal runs of straight bindings and of others, in order."""
    runs: list[Run] = []
    for binding in bindings_of(function):
        straight = not isinstance(binding.value, relax.If) and not _is_packed(binding.value)
        if not runs or runs[-1][0] != straight:
            runs.append((straight, []))
        runs[-1][1].append(binding)
    return runs


def _is_packed(value: relax.Expr) -> bool:
    """A call of the runtime's that is not said to be pure: it stays where it is, used or not."""
    return isinstance(value, tvm.ir.Call) and isinstance(value.op, relax.ExternFunc)


def _block(straight: bool, bindings: list[relax.Binding]) -> relax.BindingBlock:
    return relax.DataflowBlock(bindings) if straight else relax.BindingBlock(bindings)


def _renamed(binding: relax.Binding, inner: dict[relax.Var, relax.Var]) -> relax.Binding:
    def rename(var: Any) -> Any:
        return inner.get(var, var)

    value = tvm_ffi.structural_map(binding.value, (tvm.ir.Var, rename), order="pre")
    var = inner.get(binding.var, binding.var)
    if isinstance(binding, relax.MatchCast):
        return relax.MatchCast(var, value, binding.ty)
    return relax.VarBinding(var, value)
