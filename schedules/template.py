"""What a schedule template is, the registry of them, and the dispatch from a fused function to its schedule."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError
from tvm.s_tir.stmt import SBlockRealize

from ..targets import Target
from .blocks import TEMPLATE_KEY, anchor_of, as_int
from .generic import apply_generic, is_vectorized
from .retile import TILE, retile
from .row_variants import joined

Parameters = Mapping[str, int]
MISFITS = (ScheduleError, tvm.error.InternalError)
"""What TVM raises where a schedule doesn't fit a function: not every primitive refuses in its own words."""


class Template(Protocol):
    """A schedule with named parameters for one kind of anchor block.

    ``default`` is an analytic choice that is good with no measurement; ``space`` names the candidates of each
    parameter; ``apply`` schedules the whole function, prologue and epilogue included. ``version`` changes when
    parameters come to mean something else: what was measured of another version is no longer valid.
    """

    name: str
    version: int

    def space(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Mapping[str, list[int]]: ...

    def default(self, schedule: Schedule, anchor: SBlockRV, target: Target) -> Parameters: ...

    def apply(self, schedule: Schedule, anchor: SBlockRV, parameters: Parameters, target: Target) -> None: ...


@dataclass(frozen=True)
class Scheduled:
    """A scheduled function; ``template`` is None where the generic rule served, ``reason`` says why it had to."""

    function: tirx.PrimFunc
    template: str | None
    parameters: Parameters
    vectorized: bool
    reason: str = ""


_TEMPLATES: dict[str, Template] = {}


def register(template: Template) -> Template:
    _TEMPLATES[template.name] = template
    return template


@functools.cache
def templates() -> Mapping[str, Template]:
    """All templates by name; imports every module of this package on first use, for each registers its own."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return _TEMPLATES


def schedule_function(function: tirx.PrimFunc, target: Target, parameters: Parameters | None = None) -> Scheduled:
    """Schedule one fused function by the template that its anchor names, else by the generic rule.

    ``parameters`` are chosen ones, such as ``schedules.choices`` lists them (None: the template's default). Where they
    don't fit the function the default serves, and ``reason`` says so.
    """
    if parameters is not None:
        try:
            return schedule_with(function, target, parameters)
        except (*MISFITS, ValueError, KeyError, TypeError) as error:
            return replace(schedule_function(function, target), reason=f"chosen parameters failed: {_message(error)}")
    if function.attrs and TEMPLATE_KEY in function.attrs:  # a template of its own, written as loops
        return Scheduled(function, str(function.attrs[TEMPLATE_KEY]), {}, True)
    untouched = reason_to_leave(function)
    if untouched:
        return Scheduled(function, None, {}, is_vectorized(function), untouched)
    reason = "no template for this operator"
    schedule = Schedule(tvm.IRModule({"main": function}))
    anchor = anchor_of(schedule)
    if anchor is not None:
        block, name = anchor
        template = templates()[name]
        try:
            parameters = template.default(schedule, block, target)
            template.apply(schedule, block, parameters, target)
            made = _finished(schedule, name, parameters)
            return _with_variants(function, made, target)
        except MISFITS as error:
            reason = f"template {name} failed: {_message(error)}"
    schedule = Schedule(tvm.IRModule({"main": function}))
    apply_generic(schedule, target.vector_lanes)
    return _finished(schedule, None, {}, reason)


def _with_variants(function: tirx.PrimFunc, made: Scheduled, target: Target) -> Scheduled:
    return replace(made, function=joined(function, made.function, target, lambda other: _by_default(other, target)))


def _by_default(function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
    schedule = Schedule(tvm.IRModule({"main": function}))
    anchor = anchor_of(schedule)
    assert anchor is not None
    template = templates()[anchor[1]]
    try:
        template.apply(schedule, anchor[0], template.default(schedule, anchor[0], target), target)
    except MISFITS:
        return None
    return schedule.mod["main"]


def schedule_with(function: tirx.PrimFunc, target: Target, parameters: Parameters) -> Scheduled:
    """Schedule by the anchor's template with exactly these parameters.

    Raises ScheduleError, ValueError, KeyError or TypeError where they don't fit.
    """
    rest = dict(parameters)
    tile = rest.pop(TILE, None)
    if tile is not None:
        function = retile(function, tile)
    schedule = Schedule(tvm.IRModule({"main": function}))
    anchor = anchor_of(schedule)
    if anchor is None:
        raise ValueError("no template for this operator")
    block, name = anchor
    templates()[name].apply(schedule, block, rest, target)
    made = _finished(schedule, name, parameters)
    return _with_variants(function, made, target)


def reason_to_leave(function: tirx.PrimFunc) -> str:
    """Why a function takes no schedule: it was written as loops (sorting, scattering), or has nothing to do."""
    body = function.body
    if not isinstance(body, SBlockRealize) or body.block.name_hint != "root":
        return "written as loops"
    empty: list[tirx.For] = []

    def visit(loop: tirx.For) -> None:
        if as_int(loop.extent) == 0:
            empty.append(loop)

    tvm_ffi.structural_walk(body, (tirx.For, visit), order="post")
    return "no elements" if empty else ""


def _finished(schedule: Schedule, template: str | None, parameters: Parameters, reason: str = "") -> Scheduled:
    function = schedule.mod["main"]
    return Scheduled(function, template, parameters, is_vectorized(function), reason)


def _message(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.startswith("Error message")]
    return lines[0].removeprefix("Error message: ") if lines else str(error).splitlines()[-1]
