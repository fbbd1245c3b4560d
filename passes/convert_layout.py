"""Channels-last layout for convolutional graphs.

One forward sweep. Convolutions with constant weights take and give channels-last tensors; operators that don't care
about the order of dims follow where an input already is channels-last. The ONNX order of a value is made only where
an operator asks for it, so transposes end up at the edges of the convolutional part and in front of what needs them.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import as_array, constant, is_constant, op_name, shape_of
from .explanations import explain
from .layout_rules import RULES, Result, rank_of, to_first, to_last


class Layouts:
    """What a rule asks for: channels-last forms of operands. ``last`` maps variables to their channels-last twins."""

    def __init__(self, mod: tvm.IRModule, name: str):
        self.build = BindingBuilder(mod, name)
        self.last: dict[relax.Var, relax.Var] = {}
        self.pending: set[relax.Var] = set()

    def is_last(self, expr: relax.Expr) -> bool:
        """Whether the operand exists channels-last already."""
        return isinstance(expr, relax.Var) and expr in self.last

    def get(self, expr: relax.Expr, rank: int) -> relax.Expr | None:
        """The operand for use beside channels-last tensors of ``rank``; None where it has no such form.

        Constants are reordered here and now; a tensor of full rank is transposed; scalars serve as they are.
        """
        if self.is_last(expr):
            return self.last[expr]
        array = as_array(expr)
        if array is not None:
            if array.size == 1 and array.ndim == 0:
                return expr
            full = array.reshape((1,) * (rank - array.ndim) + array.shape)
            return constant(full.transpose(to_last(rank)))
        if rank_of(expr) == 0:
            return expr
        if rank_of(expr) != rank or not isinstance(expr, relax.Var):
            return None
        twin = self.build.emit(relax.op.permute_dims(expr, to_last(rank)), f"{expr.name}_last")
        self.last[expr] = twin
        return twin

    def restore(self, expr: relax.Expr) -> None:
        """Make every pending variable that ``expr`` reads, in branches too, in ONNX's order."""
        for var in relax.analysis.free_vars(expr):
            if var in self.pending:
                self.pending.discard(var)
                twin = self.last[var]
                self.build.bind(var, relax.op.permute_dims(twin, to_first(rank_of(twin))))


@each_function
def convert_layout(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many operators work channels-last now."""
    layouts = Layouts(mod, name)
    function = mod[name]
    converted = 0
    for binding in bindings_of(function):
        result = _convert(layouts, binding)
        if result is None:
            _explain(layouts, binding)
            layouts.restore(binding.value)
            layouts.build.keep(binding)
            continue
        converted += 1
        if result.channels_last:
            layouts.last[binding.var] = layouts.build.emit(result.expr, f"{binding.var.name}_last")
            layouts.pending.add(binding.var)
        else:
            layouts.build.bind(binding.var, result.expr)
    layouts.restore(function.body.body)
    return layouts.build.finish(function), converted


def _explain(layouts: Layouts, binding: relax.Binding) -> None:
    """Why an operator with a channels-last operand, or a convolution, stays in ONNX's order."""
    call: Any = binding.value if isinstance(binding, relax.VarBinding) else None
    name = op_name(call)
    if not name or not ("conv" in name or any(layouts.is_last(var) for var in relax.analysis.free_vars(call))):
        return
    reason = "no rule says how it works on another order"
    if name in RULES:
        reason = "an operand has no channels-last form, or what it does depends on the order"
        reason = "its weights are computed at run time" if "conv" in name and not is_constant(call.args[1]) else reason
    explain(name.removeprefix("relax."), "channels-last", False, reason)


def _convert(layouts: Layouts, binding: relax.Binding) -> Result | None:
    if not isinstance(binding, relax.VarBinding) or shape_of(binding.var) is None:
        return None
    rule = RULES.get(op_name(binding.value))
    return rule(layouts, binding.value) if rule else None
