"""Largest and smallest elements of rows, which the frontend writes as plain loops that keep NaN, as Relax's operators.

TVM's own forms of these lose NaN and begin at the least finite number; ``legalize_reductions`` has one in vectors that
doesn't, for axes that are the innermost. Other reductions, and processors without that form, keep the loops.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from ..contract import EXTREME, EXTREME_AXES, EXTREME_KEPT
from .bindings import BindingBuilder, bindings_of, each_function
from .constants import op_name, shape_of
from .legalize_reductions import reads_rows


@each_function
def vectorize_extremes(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many reductions it changed."""
    build = BindingBuilder(mod, name)
    count = 0
    for binding in bindings_of(mod[name]):
        extreme = _extreme(mod, binding.value)
        if extreme is None:
            build.keep(binding)
            continue
        build.bind(binding.var, extreme)
        count += 1
    return build.finish(mod[name]), count


def _extreme(mod: tvm.IRModule, call: Any) -> relax.Expr | None:
    attrs = mod[call.args[0]].attrs if op_name(call) == "relax.call_tir" else None
    if attrs is None or EXTREME not in attrs or shape_of(call) is None:
        return None
    data, axes = call.args[1].fields[0], [int(axis) for axis in attrs[EXTREME_AXES]]
    if not reads_rows(data, axes):
        return None
    operator = {"max": relax.op.max, "min": relax.op.min}[str(attrs[EXTREME])]
    return operator(data, axes, bool(attrs[EXTREME_KEPT]))
