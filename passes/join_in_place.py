"""Let kernels write straight into their part of the tensor that joins their results.

A Concat of results that nothing else reads is no kernel then: memory for the whole is taken before the first of them,
and each writes its part. What can't be written in place, an input or a tensor with other readers, is copied into it.
Works on scheduled functions, so a kernel is scheduled and tuned once, wherever its results go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.s_tir import Schedule
from tvm.sym import Analyzer

from ..schedules.generic import apply_generic
from .bindings import BindingBuilder, bindings_of, count_uses, each_function
from .constants import as_int, dtype_of, op_name, shape_of
from .explanations import explain
from .write_part import write_part

AXIS_KEY = "kiln.joins"
"""Attribute of a function that joins its inputs and does nothing else: along which axis."""

ORIGIN_KEY = "kiln.part_of"
"""Attribute of a function that was made from another one here: that one's name."""

LEAST_IN_PLACE = 0.5
"""Share of the whole that must be written in place: each other part costs a kernel of its own."""


@dataclass(frozen=True)
class _Part:
    """What is joined: a tensor and where it begins. ``function`` writes it in place; None where it has to be copied."""

    tensor: relax.Expr
    offset: int
    length: int
    function: tirx.PrimFunc | None


@dataclass(frozen=True)
class _Joined:
    axis: int
    total: int
    parts: list[_Part]

    @property
    def reason(self) -> str:
        written = sum(part.function is not None for part in self.parts)
        return f"kernels write {written} of {len(self.parts)} parts, which nothing else reads; the others are copied"


def join_in_place(mod: tvm.IRModule, lanes: int) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many joins became no kernel. ``lanes`` are those of the target's vectors."""
    if not any(_axis_of(function) is not None for function in mod.functions.values()):
        return mod, 0
    joined, count = each_function(lambda one, name: _join(one, name, lanes))(relax.transform.ToNonDataflow()(mod))
    # What was only called for parts that are now written in place isn't compiled.
    return (relax.transform.DeadCodeElimination()(joined), count) if count else (mod, 0)


def _axis_of(function: Any) -> int | None:
    has = isinstance(function, tirx.PrimFunc) and function.attrs and AXIS_KEY in function.attrs
    return int(function.attrs[AXIS_KEY]) if has else None


def _join(mod: tvm.IRModule, name: str, lanes: int) -> tuple[tvm.IRModule, int]:
    function = mod[name]
    plans = _plans(mod, function)
    if not plans:
        return mod, 0
    writer = _Writer(mod, name, lanes)
    places = {
        part.tensor: (joined, plan, part)
        for joined, plan in plans.items()
        for part in plan.parts
        if part.function is not None
    }
    for binding in bindings_of(function):
        if binding.var in places:
            writer.write(binding, *places[binding.var])
        elif binding.var in plans:
            writer.complete(binding.var, plans[binding.var])
        else:
            writer.build.keep(binding)
    return writer.build.finish(function), len(plans)


def _plans(mod: tvm.IRModule, function: relax.Function) -> dict[relax.Var, _Joined]:
    """The joined tensors of a function that are worth writing in place."""
    uses = count_uses(function)
    values = {b.var: b.value for b in bindings_of(function) if isinstance(b, relax.VarBinding)}
    plans: dict[relax.Var, _Joined] = {}
    for var, value in values.items():
        called = _kernel(mod, value)
        axis = _axis_of(called)
        if axis is None:
            continue
        made = {t: values[t] for t in value.args[1].fields if t in values and uses[t] == 1 and t not in plans}
        plan = _plan(mod, value, axis, made)
        subject = f"concat {'x'.join(map(str, shape_of(var) or []))}"
        explain(subject, "written in place", isinstance(plan, _Joined), plan if isinstance(plan, str) else plan.reason)
        if isinstance(plan, _Joined):
            plans[var] = plan
    return plans


def _plan(mod: tvm.IRModule, call: relax.Call, axis: int, made: dict[relax.Var, relax.Expr]) -> _Joined | str:
    """What to do, or why not; ``made`` are the values of those operands that only this call reads."""
    whole = shape_of(call) or []
    shapes = [shape_of(tensor) or [] for tensor in call.args[1].fields]
    if any(len(shape) != len(whole) or as_int(shape[axis]) is None for shape in shapes):
        return "how long a part is isn't known"
    if not all(_agree(shape, whole, axis) for shape in shapes):
        return "the sizes of the parts agree by a check while running only"
    lengths = [int(shape[axis]) for shape in shapes]
    total, offset, parts = sum(lengths), 0, []
    for tensor, length in zip(call.args[1].fields, lengths, strict=True):
        kernel = _kernel(mod, made.get(tensor))
        moved = None if kernel is None else write_part(kernel, axis, offset, total)
        parts.append(_Part(tensor, offset, length, moved))
        offset += length
    in_place = sum(part.length for part in parts if part.function is not None)
    if in_place < LEAST_IN_PLACE * total:
        return "most of it comes from inputs, or has other readers"
    return _Joined(axis, total, parts)


def _kernel(mod: tvm.IRModule, value: Any) -> tirx.PrimFunc | None:
    """The function that a call runs, if it gives one tensor and takes no sizes beside."""
    if value is None or op_name(value) != "relax.call_tir" or len(value.args) != 2:
        return None
    one = len(value.ty_args) == 1 and isinstance(value.ty_args[0], relax.TensorType)
    return mod[value.args[0]] if one else None


def _agree(shape: list[Any], whole: list[Any], axis: int) -> bool:
    analyzer = Analyzer()
    pairs = [pair for i, pair in enumerate(zip(shape, whole, strict=True)) if i != axis]
    return all(analyzer.can_prove_equal(left, right) for left, right in pairs)


class _Writer:
    """Emits the calls; ``state`` holds of each joined tensor the variable that stands for it so far."""

    def __init__(self, mod: tvm.IRModule, name: str, lanes: int):
        self.build = BindingBuilder(mod, name)
        self.lanes = lanes
        self.state: dict[relax.Var, relax.Var] = {}
        self.pending: dict[relax.Var, int] = {}

    def write(self, binding: Any, joined: relax.Var, plan: _Joined, part: _Part) -> None:
        """The call that made ``part`` alone now writes it into ``joined``."""
        call = binding.value
        name = call.args[0].name_hint
        assert part.function is not None
        function = part.function.with_attr(ORIGIN_KEY, name)
        self._call(joined, plan, function, f"{name}_at_{part.offset}", list(call.args[1].fields))

    def complete(self, joined: relax.Var, plan: _Joined) -> None:
        """Copy the other parts, and give the whole its name."""
        for part in plan.parts:
            if part.function is None:
                function = write_part(_copy(part.tensor, self.lanes), plan.axis, part.offset, plan.total)
                assert function is not None
                self._call(joined, plan, function, f"copy_at_{part.offset}", [part.tensor])
        self.build.bind(joined, self.state[joined])

    def _call(
        self, joined: relax.Var, plan: _Joined, function: tirx.PrimFunc, name: str, args: list[relax.Expr]
    ) -> None:
        if joined not in self.state:
            whole = relax.op.builtin.alloc_tensor(joined.ty.shape, dtype_of(joined), 0)
            self.state[joined] = self.build.emit(whole, f"{joined.name}_parts")
        before = self.state[joined]
        gv = self.build.add_func(function.without_attr("global_symbol"), name)
        call = relax.op.call_tir_inplace(gv, relax.Tuple([*args, before]), [len(args)], joined.ty)
        self.state[joined] = self.build.emit(call, f"{joined.name}_parts")


def _copy(tensor: relax.Expr, lanes: int) -> tirx.PrimFunc:
    """A scheduled kernel that copies a tensor. Open dims are its own: no shape tells the variables of an expression."""
    dims = [
        dim if as_int(dim) is not None else tirx.Var(f"d{axis}", "int64")
        for axis, dim in enumerate(tensor.ty.shape.values)
    ]
    source = te.placeholder(dims, str(tensor.ty.dtype), name="source")
    function = te.create_prim_func([source, te.compute(source.shape, lambda *index: source[index], name="copy")])
    schedule = Schedule(tvm.IRModule({"main": function}))
    apply_generic(schedule, lanes)
    return schedule.mod["main"]
