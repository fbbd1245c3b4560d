"""Rebuilding a function binding by binding: the plainest way to rewrite a graph in one forward sweep.

A pass walks the bindings in order and emits new ones. Untouched bindings keep their variables, so nothing that is
not rewritten needs substitution, branches of an ``If`` included.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprVisitor, visitor


class BindingBuilder:
    """Collects bindings for one function; ``emit`` infers the type of a new expression and names it."""

    def __init__(self, mod: tvm.IRModule, name: str):
        self.name = name
        self.builder = relax.BlockBuilder(mod.clone())  # a builder's module changes in place
        self.bindings: list[relax.Binding] = []

    def emit(self, expr: relax.Expr, hint: str = "v") -> relax.Var:
        expr = self.builder.normalize(expr)
        var = relax.Var(hint, expr.ty)
        self.bindings.append(relax.VarBinding(var, expr))
        return var

    def bind(self, var: relax.Var, expr: relax.Expr) -> None:
        """Give an existing variable a new value of the same type."""
        self.bindings.append(relax.VarBinding(var, self.builder.normalize(expr)))

    def keep(self, binding: relax.Binding) -> None:
        self.bindings.append(binding)

    def add_func(self, function: tvm.tirx.PrimFunc, name: str) -> tvm.ir.GlobalVar:
        return self.builder.add_func(function, name)

    def finish(self, function: relax.Function) -> tvm.IRModule:
        """The module with the function made of the collected bindings and the old result."""
        return self.replace(function, function.body.body)

    def replace(self, function: relax.Function, result: relax.Expr) -> tvm.IRModule:
        """As ``finish``, with another result, whose type becomes the function's."""
        body = typed([relax.BindingBlock(self.bindings)], result)
        mod = self.builder.get()
        mod[self.name] = relax.Function(function.params, body, result.ty, function.is_pure, function.attrs)
        return mod


def typed(blocks: Sequence[relax.BindingBlock], result: relax.Expr) -> relax.SeqExpr:
    """A sequence that knows its type, as TVM's check of a module asks for."""
    return relax.BlockBuilder().normalize(relax.SeqExpr(list(blocks), result))


def relax_functions(mod: tvm.IRModule) -> list[str]:
    """Names of the module's graph functions: ``main`` and the branches that became functions."""
    return [gv.name_hint for gv, function in mod.functions.items() if isinstance(function, relax.Function)]


def each_function(
    rewrite: Callable[[tvm.IRModule, str], tuple[tvm.IRModule, int]],
) -> Callable[[tvm.IRModule], tuple[tvm.IRModule, int]]:
    """A pass over the module from one that rewrites the function of a given name; counts are summed."""

    @functools.wraps(rewrite)
    def run(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
        total = 0
        for name in relax_functions(mod):
            mod, count = rewrite(mod, name)
            total += count
        return mod, total

    run.__annotations__ = {"mod": tvm.IRModule, "return": tuple[tvm.IRModule, int]}
    del run.__wrapped__
    return run


def bindings_of(function: relax.Function) -> Iterator[relax.Binding]:
    for block in function.body.blocks:
        yield from block.bindings


@visitor
class _UseCounter(PyExprVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[relax.Var] = Counter()

    def visit_var_(self, var: relax.Var) -> None:
        self.uses[var] += 1

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> None:
        self.uses[var] += 1


def count_uses(function: relax.Function) -> Counter[relax.Var]:
    """How often each variable is read, in branches too."""
    counter = _UseCounter()
    counter.visit_expr(function.body)
    return counter.uses
