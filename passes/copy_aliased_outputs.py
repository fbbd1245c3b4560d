"""Copy outputs that would share memory with an input, a weight or one another.

A caller owns what it gets: the next run must not write into it, nor it into the model's weights.
"""

from __future__ import annotations

import tvm
from tvm import relax, te

from .bindings import BindingBuilder, bindings_of
from .constants import is_constant, op_name

_VIEWS = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"}
"""Operators whose result is the same memory in another shape."""


def copy_aliased_outputs(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many outputs are copies."""
    function = mod["main"]
    values = {binding.var: binding.value for binding in bindings_of(function)}
    outputs = _outputs(function, values)
    build = BindingBuilder(mod, "main")
    build.bindings = list(bindings_of(function))
    seen: list[relax.Expr] = []
    fields, copies = [], 0
    for output in outputs:
        root = _root(output, values)
        if not isinstance(output.ty, relax.TensorType):
            fields.append(output)  # a sequence: whoever reads it copies its items
            continue
        if _is_shared(root, values) or any(root.same_as(other) for other in seen):
            output = build.emit(_copy(build, output), "output")
            copies += 1
        seen.append(root)
        fields.append(output)
    return build.replace(function, build.emit(relax.Tuple(fields), "outputs")), copies


def _outputs(function: relax.Function, values: dict[relax.Var, relax.Expr]) -> list[relax.Expr]:
    result = function.body.body
    while isinstance(result, relax.Var):
        result = values[result]
    return list(result.fields)


def _root(expr: relax.Expr, values: dict[relax.Var, relax.Expr]) -> relax.Expr:
    """The expression that made the memory which ``expr`` shows."""
    while True:
        bound = values.get(expr) if isinstance(expr, relax.Var) else None
        if isinstance(bound, relax.Var) or is_constant(bound):
            expr = bound
        elif isinstance(expr, relax.Var) and op_name(values.get(expr)) in _VIEWS:
            expr = values[expr].args[0]
        else:
            return expr


def _is_shared(root: relax.Expr, values: dict[relax.Var, relax.Expr]) -> bool:
    """Inputs, constants, and what a branch, a loop or a sequence gave: that may be either."""
    if is_constant(root) or root not in values:
        return True
    value = values[root]
    return isinstance(value, relax.If | relax.TupleGetItem) or op_name(value) == "relax.call_pure_packed"


def _copy(build: BindingBuilder, value: relax.Expr) -> relax.Expr:
    def copy(source: te.Tensor) -> te.Tensor:
        return te.compute(source.shape, lambda *index: source[index], name="copy")

    return build.builder.call_te(copy, value, primfunc_name_hint="copy")
