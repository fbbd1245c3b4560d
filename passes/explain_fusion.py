"""What was fused, and why neighbours were not: read off a module whose groups have been formed.

TVM's FuseOps decides. Its rules: a result goes into a function with its readers only if all of them end in one place;
elementwise operators go behind a kernel or a reduction, and before a reduction; two kernels are never one function.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import tvm
from tvm import relax, tirx

from .bindings import bindings_of, count_uses, relax_functions
from .constants import op_name
from .explanations import explain

ELEMENTWISE, BROADCAST, INJECTIVE, REDUCTION, KERNEL, OPAQUE = 0, 1, 2, 3, 4, 8
"""TVM's ``OpPatternKind``."""


def explain_fusion(mod: tvm.IRModule) -> None:
    """Says of each group what is in it, and of each tensor between two functions why they are two."""
    for name in relax_functions(mod):
        function = mod[name]
        if _is_group(function):
            members = [label for label, _ in _members(mod, function)]
            explain(" + ".join(members), "one function", True, "elementwise operators around one kernel, if any")
        else:
            _explain_edges(mod, function)


def _is_group(function: relax.Function) -> bool:
    return bool(function.attrs and "Primitive" in function.attrs)


def _explain_edges(mod: tvm.IRModule, function: relax.Function) -> None:
    uses = count_uses(function)
    made: dict[relax.Var, list[tuple[str, int]]] = {}
    outputs = set(relax.analysis.free_vars(function.body.body))
    readers: dict[relax.Var, list[list[tuple[str, int]]]] = defaultdict(list)
    for binding in bindings_of(function):
        value: Any = binding.value if isinstance(binding, relax.VarBinding) else None
        members = _called(mod, value)
        if members:
            made[binding.var] = members
            for var in set(relax.analysis.free_vars(value)):
                readers[var].append(members)
    for var, producer in made.items():
        for consumer in readers[var]:
            reason = _reason(producer, consumer, uses[var], var in outputs)
            explain(f"{_title(producer)} -> {_title(consumer)}", "one function", False, reason)


def _title(members: list[tuple[str, int]]) -> str:
    counted = Counter(label for label, _ in members)
    return " + ".join(label if n == 1 else f"{n} {label}" for label, n in counted.items())


def _reason(producer: list[tuple[str, int]], consumer: list[tuple[str, int]], uses: int, is_output: bool) -> str:
    first, second = (max(pattern for _, pattern in members) for members in (producer, consumer))
    if first == OPAQUE or second == OPAQUE:
        opaque = next(label for label, pattern in [*producer, *consumer] if pattern == OPAQUE)
        return f"{opaque} is written as loops of its own"
    if is_output:
        return "what lies between is an output too"
    if uses > 1:
        return f"what lies between is read {uses} times"
    if first >= REDUCTION and second >= REDUCTION:
        return "each is a kernel or a reduction with a schedule of its own"
    if first >= KERNEL and second == INJECTIVE:
        return "the second moves elements: a kernel writes its tiles in place only"
    if first >= REDUCTION:
        return "a reduction's result is needed whole before it is broadcast"
    if second >= KERNEL:
        return "a kernel would compute what it reads many times again"
    return "their readers or shapes do not meet in one place"


def _called(mod: tvm.IRModule, value: Any) -> list[tuple[str, int]]:
    """(name, pattern) of what a call runs: a function alone, or the members of a group; empty for anything else."""
    if op_name(value) == "relax.call_tir":
        return [_labelled(mod, value.args[0])]
    if isinstance(value, tvm.ir.Call) and isinstance(value.op, tvm.ir.GlobalVar):
        function = mod[value.op]
        if isinstance(function, relax.Function) and _is_group(function):
            return _members(mod, function)
    return []


def _members(mod: tvm.IRModule, group: relax.Function) -> list[tuple[str, int]]:
    values = [binding.value for binding in bindings_of(group) if isinstance(binding, relax.VarBinding)]
    return [_labelled(mod, value.args[0]) for value in values if op_name(value) == "relax.call_tir"]


def _labelled(mod: tvm.IRModule, gv: tvm.ir.GlobalVar) -> tuple[str, int]:
    function = mod[gv]
    assert isinstance(function, tirx.PrimFunc)
    pattern = function.attrs["op_pattern"] if function.attrs and "op_pattern" in function.attrs else OPAQUE
    return gv.name_hint.rstrip("0123456789").rstrip("_"), int(pattern)
