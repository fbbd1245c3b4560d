"""Sizes to measure with where a model leaves dims open: one for each dim of the graph, then for each kernel's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprVisitor, visitor
from tvm.sym import Analyzer

from ..contract import Contract, DimRange

MANY = 8
"""A batch of several."""

UNBOUNDED = 128, 256, 512, 1024, 2048
"""For an open dim that nothing bounds, such as the length of a sentence: the first that leaves no kernel without work.
Sounds are longer than sentences: 128 samples are less than one window of a spectrum."""

UNBOUNDED_IMAGE = 224
"""The same for height and width of an image: dims 2 and 3 of an input of rank 4."""

UNKNOWN = 16
"""For a dim that only a run can tell, such as the number of boxes found."""


def representative_sizes(contract: Contract, many: bool = False, unbounded: int = UNBOUNDED[0]) -> dict[str, int]:
    """A size for each open dim, inside of its range.

    A batch (dim 0) gets its smallest size, or a larger one with ``many``: what is best for one may be poor for several.
    Other dims get their largest, and what has none is ``unbounded``.
    """
    sizes: dict[str, int] = {}
    for spec in contract.inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim not in sizes:
                bounds = contract.dims.get(dim, DimRange())
                image = len(spec.shape) == 4 and axis >= 2
                sizes[dim] = _batch(bounds, many) if axis == 0 else _extent(bounds, image, unbounded)
    return sizes


def _batch(bounds: DimRange, many: bool) -> int:
    low = max(1, bounds.minimum)
    if not many:
        return low
    return max(low, MANY if bounds.maximum is None else min(MANY, bounds.maximum))


def _extent(bounds: DimRange, image: bool, unbounded: int) -> int:
    low = max(1, bounds.minimum)
    if bounds.maximum is not None:
        return max(low, bounds.maximum)
    return max(low, UNBOUNDED_IMAGE if image else unbounded)


class SizedGraph:
    """The sizes of a graph's open dims: those of its inputs, and stand-ins for what is computed at run time."""

    def __init__(self, mod: tvm.IRModule, contract: Contract, many: bool = False, unbounded: int = UNBOUNDED[0]):
        self._sizes: dict[Any, int] = {}
        self._simplify = Analyzer().simplify
        named = representative_sizes(contract, many, unbounded)
        for param, spec in zip(mod["main"].params, contract.inputs):
            if isinstance(param.ty, relax.TensorType) and isinstance(param.ty.shape, relax.ShapeExpr):
                for var, dim in zip(param.ty.shape.values, spec.shape):
                    if isinstance(var, tirx.Var) and isinstance(dim, str):
                        self._sizes[var] = named[dim]
        self._enter(mod, mod["main"], {"main"})

    def _enter(self, mod: tvm.IRModule, function: relax.Function, entered: set[str]) -> None:
        """Sizes of the functions that this one calls, such as the branches of an If: by what they are called with."""
        for call in _calls_of_functions(function):
            name = call.op.name_hint
            callee = mod[name] if name not in entered else None
            if not isinstance(callee, relax.Function):
                continue
            for param, value in zip(callee.params, call.args):
                for var, dim in zip(_dims(param), _dims(value)):
                    if isinstance(var, tirx.Var) and var not in self._sizes:
                        self._sizes[var] = self.evaluate(dim)
            self._enter(mod, callee, entered | {name})

    def evaluate(self, expr: Any) -> int:
        """A dim as a number; never negative."""
        if isinstance(expr, int | tirx.IntImm):
            return int(expr)
        for var in tirx.analysis.undefined_vars(expr):
            self._sizes.setdefault(var, UNKNOWN)
        known = {var: tirx.const(size, str(var.ty.dtype)) for var, size in self._sizes.items()}
        value = self._simplify(_substitute(expr, known))
        return max(0, int(value)) if isinstance(value, tirx.IntImm) else UNKNOWN


def _dims(value: relax.Expr) -> Sequence[Any]:
    """Of a tensor or of a shape; none where they are unknown."""
    shape = value.ty.shape if isinstance(value.ty, relax.TensorType) else value.ty
    return getattr(shape, "values", None) or ()


@visitor
class _Calls(PyExprVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[relax.Call] = []

    def visit_call_(self, call: relax.Call) -> None:
        if isinstance(call.op, tvm.ir.GlobalVar):
            self.found.append(call)


def _calls_of_functions(function: relax.Function) -> list[relax.Call]:
    calls = _Calls()
    calls.visit_expr(function)
    return calls.found


def bind(function: tirx.PrimFunc, shapes: list[tuple[int, ...] | int]) -> dict[Any, int]:
    """The function's own open dims when its arguments have these ``shapes`` (an int is a scalar argument's value)."""
    sizes: dict[Any, int] = {}
    for param, shape in zip(function.params, shapes):
        if isinstance(shape, int):
            sizes.setdefault(param, shape)
            continue
        for dim, size in zip(param.shape, shape):
            if isinstance(dim, tirx.Var):
                sizes.setdefault(dim, size)
    return sizes


def evaluate_with(expr: Any, sizes: Mapping[Any, int]) -> int:
    """An extent of a bound function as a number."""
    if isinstance(expr, int | tirx.IntImm):
        return int(expr)
    known = {var: tirx.const(size, str(var.ty.dtype)) for var, size in sizes.items()}
    return int(Analyzer().simplify(_substitute(expr, known)))


def _substitute(expr: Any, known: Mapping[Any, Any]) -> Any:
    return tvm_ffi.structural_map(expr, (tvm.ir.Var, lambda var: known.get(var, var)))
