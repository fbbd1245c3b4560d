"""Compute products of [batch, rows, K] as products of batch * rows rows, and images' pixels as one row, of open sizes.

A kernel works on tiles of rows, and what is left over of each batch is a tile of its own: 3 sequences of 61 tokens
are 24 tiles of 8, where 183 rows are 23. A batch of 8 single tokens even streams the weights eight times. So functions
that treat all rows alike, products and normalisations with what was fused behind them, are made for a batch of 1, and
called with views of their arguments in which that 1 stands before all the rows. Convolutions of single pixels treat
height and width so: an image of 7 rows of 7 is one row of 49.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.stmt import SBlock
from tvm.sym import Analyzer

from ..schedules.blocks import anchor_of, as_int
from ..schedules.template import reason_to_leave
from .bindings import BindingBuilder, bindings_of, relax_functions
from .constants import op_name, shape_of

TEMPLATES = {"matmul": 0, "int8_matmul": 0, "row_reduce": 0, "conv2d": 1}
"""Templates of functions that are flattened, and the first of the two axes that become one."""


@dataclass(frozen=True)
class Flat:
    """A function whose axis ``axis`` is 1 and whose next one has all rows."""

    function: tirx.PrimFunc
    axis: int


def flatten_rows(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many calls were changed. It is for fused functions, before they are scheduled."""
    flattened = {gv: flat for gv, function in mod.functions.items() if (flat := _flattened(function)) is not None}
    if not any(_template(mod[gv]) != "row_reduce" for gv in flattened):
        return mod, 0
    mod = relax.transform.ToNonDataflow()(mod)
    total = 0
    for name in relax_functions(mod):
        mod, count = _rewrite(mod, name, {gv.name_hint: flat for gv, flat in flattened.items()})
        total += count
    return mod, total


def _rewrite(mod: tvm.IRModule, name: str, flattened: Mapping[str, Flat]) -> tuple[tvm.IRModule, int]:
    function = mod[name]
    build = BindingBuilder(mod, name)
    made: dict[str, tvm.ir.GlobalVar] = {}
    views: dict[Any, relax.Expr] = {}
    count = 0
    for binding in bindings_of(function):
        call: Any = binding.value if isinstance(binding, relax.VarBinding) else None
        source = call.args[0].name_hint if op_name(call) == "relax.call_tir" else ""
        flat = flattened.get(source)
        dims = shape_of(binding.var) if flat is not None and len(call.args) == 2 else None
        if flat is None or dims is None or dims[flat.axis] == 1:
            build.keep(binding)
            continue
        count += 1
        if source not in made:
            made[source] = build.add_func(flat.function.without_attr("global_symbol"), f"{source}_rows")
        arguments = [_view(build, views, argument, dims, flat.axis) for argument in call.args[1].fields]
        rows = relax.TensorType(_merged(dims, flat.axis), binding.var.ty.dtype)
        result = build.emit(relax.call_tir(made[source], relax.Tuple(arguments), rows), "rows")
        views[binding.var] = result
        build.bind(binding.var, relax.op.reshape(result, dims))
    return (build.finish(function), count) if count else (mod, 0)


def _merged(dims: Sequence[Any], axis: int) -> list[Any]:
    return [*dims[:axis], 1, dims[axis] * dims[axis + 1], *dims[axis + 2 :]]


def _view(build: BindingBuilder, views: dict[Any, relax.Expr], argument: relax.Expr, result: Any, axis: int) -> Any:
    """``argument`` with its rows behind a batch of 1, if it has those of the ``result``."""
    dims, pair = shape_of(argument), slice(axis, axis + 2)
    if dims is None or len(dims) < axis + 3 or not _same(dims[pair], result[pair]):
        return argument
    if argument not in views:
        views[argument] = build.emit(relax.op.reshape(argument, _merged(dims, axis)), "rows")
    return views[argument]


def _same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    return all(tvm_ffi.structural_equal(a, b) for a, b in zip(left, right, strict=True))


def _template(function: tirx.PrimFunc) -> str:
    if reason_to_leave(function):
        return ""
    found = anchor_of(Schedule(tvm.IRModule({"main": function})))
    return found[1] if found else ""


def _flattened(function: Any) -> Flat | None:
    """The function for a batch of 1; None unless its batch and rows are open and it treats all rows alike."""
    if not isinstance(function, tirx.PrimFunc) or not all(tirx.is_buffer_var(param) for param in function.params):
        return None
    for axis in sorted(set(TEMPLATES.values())):
        batch, rows = (*function.params[-1].shape[axis : axis + 2], None, None)[:2]
        if not isinstance(batch, tirx.Var) or not isinstance(rows, tirx.Var) or batch.same_as(rows):
            continue
        if not all(_is_whole(param.shape, batch, rows, axis) for param in function.params):
            continue
        if TEMPLATES.get(_template(function)) == axis and _treats_rows_alike(function, batch, rows, axis):
            return Flat(_for_one(function, batch), axis)
    return None


def _for_one(function: tirx.PrimFunc, batch: tirx.Var) -> tirx.PrimFunc:
    one = tirx.const(1, batch.ty)
    entries = [(tvm.ir.Var, lambda var: one if var.same_as(batch) else var), (tirx.Sub, Analyzer().simplify)]
    return tvm_ffi.structural_map(function, entries)


def _is_whole(shape: Sequence[Any], batch: Any, rows: Any, axis: int) -> bool:
    """Whether a tensor has all rows of all batches, or none."""
    pair = shape[axis : axis + 2]
    has_rows = len(shape) > axis + 2 and pair[0].same_as(batch) and pair[1].same_as(rows)
    return _count([*shape[:axis], *shape[axis + 2 :]] if has_rows else list(shape), [batch, rows]) == 0


def _treats_rows_alike(function: tirx.PrimFunc, batch: Any, rows: Any, axis: int) -> bool:
    """Whether batch and rows are loops that nothing but those two indices of tensors depends on.

    The number of rows may be a bound of the second index, which repeats the last row to fill a tile.
    """
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(function.body, (SBlock, blocks.append))
    for block in blocks:
        if block.name_hint == "root":
            continue
        firsts = [it.var for it in block.iter_vars if _count([it.dom.extent], [batch])]
        seconds = [it.var for it in block.iter_vars if _count([it.dom.extent], [rows])]
        accesses = _accesses(block.body)
        used = sum(_count(list(indices), [*firsts, *seconds]) for _, indices in accesses)
        pairs = [_without_steps_of_one(block, indices) for _, indices in accesses]
        proper = sum(_is_proper(indices, firsts, seconds, rows, axis) for indices in pairs)
        if len(firsts) != 1 or len(seconds) != 1 or 2 * proper != used:
            return False
        # What else there is: the bounds of second indices, and the shapes that tensors carry along.
        other = sum(_count([buffer, *indices], [batch, rows]) for buffer, indices in accesses)
        if _count([block.body], [batch, rows, *firsts, *seconds]) != used + other:
            return False
    return bool(blocks)


def _without_steps_of_one(block: SBlock, indices: Sequence[Any]) -> list[Any]:
    """The indices without variables that are always 0: the places in the window of a single pixel."""
    steps = [it.var for it in block.iter_vars if as_int(it.dom.extent) == 1]
    if not steps:
        return list(indices)

    def zero(var: tvm.ir.Var) -> Any:
        return tirx.const(0, var.ty) if any(var.same_as(step) for step in steps) else var

    return [Analyzer().simplify(tvm_ffi.structural_map(index, (tvm.ir.Var, zero))) for index in indices]


def _is_proper(indices: Sequence[Any], firsts: list[Any], seconds: list[Any], rows: Any, axis: int) -> bool:
    if len(indices) < axis + 2 or len(firsts) != 1 or len(seconds) != 1 or not indices[axis].same_as(firsts[0]):
        return False
    second = indices[axis + 1]
    if isinstance(second, tirx.Min):
        if not Analyzer().can_prove_equal(second.b, rows - 1):
            return False
        second = second.a
    others = [*indices[:axis], *indices[axis + 2 :]]
    return second.same_as(seconds[0]) and _count(others, [rows, *firsts, *seconds]) == 0


def _accesses(body: tirx.Stmt) -> list[tuple[Any, Sequence[Any]]]:
    """(tensor, indices) of each load and store."""
    found: list[tuple[Any, Sequence[Any]]] = []
    tvm_ffi.structural_walk(
        body,
        [
            (TensorLoad, lambda load: found.append((load.source, load.indices))),
            (tirx.BufferStore, lambda store: found.append((store.buffer, store.indices))),
        ],
    )
    return found


def _count(nodes: list[Any], variables: list[Any]) -> int:
    """How often the variables occur in expressions or statements."""
    total = 0

    def visit(var: tvm.ir.Var) -> None:
        nonlocal total
        total += any(var.same_as(other) for other in variables)

    for node in nodes:
        if not isinstance(node, int):
            tvm_ffi.structural_walk(node, (tvm.ir.Var, visit))
    return total
