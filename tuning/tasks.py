"""What there is to tune in a model: its distinct kernels with something to choose, and how often each is called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprVisitor, visitor
from tvm.s_tir import Schedule

from ..contract import Contract
from ..schedules import winograd_conv2d
from ..schedules.blocks import all_blocks, anchor_of, extent, is_spatial
from ..schedules.choices import Choices, choices_of
from ..schedules.retile import AXIS, tile_of, tiled_length
from ..schedules.template import Parameters
from ..targets import Target
from .sizes import UNBOUNDED, SizedGraph, bind, evaluate_with
from .workload import workload_of

Sites = list[tuple[relax.Call, set[Any]]]
"""Calls of one kernel, each with the variables known to hold weights there."""


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: ``is_weight`` says that its data come from the weights file, cold."""

    shape: tuple[int, ...]
    dtype: str
    is_weight: bool = False
    value: int | None = None
    """Of an integer that isn't a tensor: a dim."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * max(1, tvm.DataType(self.dtype).bits // 8) if self.value is None else 0


@dataclass(frozen=True)
class Task:
    """One kernel to tune, in words ``text``; ``functions`` are its names in the module, ``calls`` counts call sites.

    ``arguments`` are those to measure with, the result last; there is a second set where the number of rows depends
    on an open batch. ``flops`` is what the first asks of the anchor, two for each multiply-add (Winograd's products,
    not those that they stand for); ``nbytes`` what its arguments take.
    """

    workload: str
    text: str
    algorithm: str
    choices: Choices
    functions: tuple[str, ...]
    calls: int
    function: tirx.PrimFunc = field(repr=False)
    arguments: tuple[tuple[Argument, ...], ...] = field(repr=False)
    scales: tuple[float, ...]
    """By which the seconds of each set of arguments count: their work beside the first's."""
    flops: int
    nbytes: int
    features: Mapping[str, float] = field(repr=False)
    results: int = 1
    """How many of the arguments, the last ones, are results."""

    def candidate_features(self, parameters: Parameters, target: Target) -> dict[str, float]:
        """Numbers that a cost model may learn from: the task's, and what these parameters come to."""
        tile = parameters.get("tile", self.features.get("tile", 1))
        blocks = parameters.get("blocks", parameters.get("vectors", 1))
        rows = max(1.0, self.features["rows"])
        derived = {
            "sums": float(tile * blocks),
            "per_load": tile * blocks / (tile + blocks),
            "useful": rows / (math.ceil(rows / tile) * tile),
            "lanes": float(target.vector_lanes),
        }
        return {**self.features, **derived, **{f"p_{name}": float(value) for name, value in parameters.items()}}


def tasks_of(mod: tvm.IRModule, target: Target, contract: Contract, least: int = 2) -> list[Task]:
    """The tasks of an optimized, unscheduled module, in the order of their first call.

    Kernels with fewer candidates than ``least`` leave nothing to choose and are none.
    """
    sites = _call_sites(mod)
    choices = {name: choices_of(mod[name], target) for name in sites}
    sites = {name: calls for name, calls in sites.items() if len(getattr(choices[name], "candidates", ())) >= least}
    tasks: dict[str, Task] = {}
    for name, arguments in _sized_arguments(mod, contract, sites).items():
        function, calls, its = mod[name], sites[name], choices[name]
        assert its is not None
        task = _task(name, function, its, arguments, len(calls))
        task = replace(task, results=len(list(_results(calls[0][0].ty_args[0]))))
        known = tasks.get(task.workload)
        if known is not None:
            task = replace(known, functions=(*known.functions, name), calls=known.calls + len(calls))
        tasks[task.workload] = task
    return list(tasks.values())


def _sized_arguments(
    mod: tvm.IRModule, contract: Contract, sites: Mapping[str, Sites]
) -> dict[str, list[tuple[Argument, ...]]]:
    """For each kernel its arguments at the sizes to measure with, at one and at several rows of an open batch."""
    sized: dict[str, list[tuple[Argument, ...]]] = {}
    for unbounded in UNBOUNDED:
        graphs = [SizedGraph(mod, contract, many, unbounded) for many in (False, True)]
        found = {
            name: [_largest([_arguments(mod[name], *call, graph) for call in calls]) for graph in graphs]
            for name, calls in sites.items()
        }
        sized = sized or found
        if not any(0 in argument.shape for sets in found.values() for one in sets for argument in one):
            return found
    return sized


@visitor
class _Sites(PyExprVisitor):
    """Calls of kernels, each with the variables known to hold weights there."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, Sites] = {}
        self.weights: set[Any] = set()

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        value = binding.value
        if isinstance(value, relax.Call) and _reads_weights(value):
            self.weights.add(binding.var)
        super().visit_var_binding_(binding)

    def visit_call_(self, call: relax.Call) -> None:
        if getattr(call.op, "name", "") == "relax.call_tir":
            self.calls.setdefault(call.args[0].name_hint, []).append((call, self.weights))
        for arg in call.args:
            self.visit_expr(arg)


def _reads_weights(call: relax.Call) -> bool:
    """Whether it is an element of the array of weights that ``lift_weights`` gives each function."""
    first = call.args[0] if len(call.args) else None
    if getattr(first, "global_symbol", "") != "vm.builtin.tuple_getitem":
        return False
    return getattr(call.args[1], "name", "") == "weights"


def _call_sites(mod: tvm.IRModule) -> dict[str, Sites]:
    sites = _Sites()
    for function in mod.functions.values():
        if isinstance(function, relax.Function):
            sites.visit_expr(function)
    return sites.calls


def _arguments(
    function: tirx.PrimFunc, call: relax.Call, weights: set[Any], graph: SizedGraph
) -> tuple[Argument, ...]:
    given = list(call.args[1].fields) if isinstance(call.args[1], relax.Tuple) else [call.args[1]]
    results = _results(call.ty_args[0])
    arguments: list[Argument] = []
    for param, value in zip(function.params, [*given, *results], strict=True):
        if not tirx.is_buffer_var(param):
            arguments.append(Argument((), str(param.ty.dtype), value=graph.evaluate(value)))
            continue
        shape = (value if isinstance(value, relax.TensorType) else value.ty).shape
        dims = tuple(graph.evaluate(dim) for dim in shape.values)
        is_weight = isinstance(value, tvm.ir.GenericConst) or (isinstance(value, relax.Var) and value in weights)
        arguments.append(Argument(dims, str(param.dtype), is_weight))
    return tuple(arguments)


def _results(out: Any) -> Iterator[Any]:
    if isinstance(out, relax.TupleType):
        yield from out.fields
    else:
        yield out


def _largest(sites: list[tuple[Argument, ...]]) -> tuple[Argument, ...]:
    """The arguments of the call that moves most: it has the largest share of the time."""
    return max(sites, key=lambda arguments: sum(argument.nbytes for argument in arguments))


def _task(
    name: str, function: tirx.PrimFunc, choices: Choices, arguments: list[tuple[Argument, ...]], calls: int
) -> Task:
    bound = [bind(function, [a.shape if a.value is None else a.value for a in one]) for one in arguments]
    features = [_shape_features(function, sizes) for sizes in bound]
    kept = 2 if features[0]["rows"] != features[1]["rows"] else 1
    first = features[0]
    first["bytes"] = float(sum(argument.nbytes for argument in arguments[0]))
    first["weight_bytes"] = float(sum(argument.nbytes for argument in arguments[0] if argument.is_weight))
    shown = "x".join(str(int(first[key])) for key in ("outer", "rows", "columns", "depth"))
    return Task(
        workload=workload_of(function, tuple(size for sizes in bound[:kept] for size in sizes.values())),
        text=f"{choices.template} {shown}",
        algorithm=algorithm_of(function),
        choices=choices,
        functions=(name,),
        calls=calls,
        function=function,
        arguments=tuple(arguments[:kept]),
        scales=tuple(first["flops"] / max(1.0, one["flops"]) for one in features[:kept]),
        flops=int(first["flops"]),
        nbytes=int(first["bytes"]),
        features=first,
    )


def algorithm_of(function: tirx.PrimFunc) -> str:
    """"direct", or for Winograd's F(n x n, 3 x 3) "winograd_fn": its products have n + 2 rows and columns."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = anchor_of(schedule)
    if found is None or found[1] != winograd_conv2d.NAME:
        return "direct"
    size = extent(schedule, schedule.get_loops(found[0])[1])
    return f"winograd_f{(size or 0) - winograd_conv2d.TAPS + 1}"


def _shape_features(function: tirx.PrimFunc, sizes: Mapping[Any, int]) -> dict[str, float]:
    """What the anchor's loops come to, without the rows that only fill up a tile, and the blocks around it."""
    schedule = Schedule(tvm.IRModule({"main": function}))
    found = anchor_of(schedule)
    assert found is not None
    anchor, _ = found
    block = schedule.get(anchor)
    extents = [evaluate_with(schedule.get(loop).extent, sizes) for loop in schedule.get_loops(anchor)]
    spatial = [e for e, var in zip(extents, block.iter_vars) if var.iter_type == tirx.IterVar.DataPar]
    depth = math.prod(extents) // max(1, math.prod(spatial))
    length = tiled_length(schedule, anchor)
    if length is not None:
        spatial[AXIS] = evaluate_with(length, sizes)
    blocks = [schedule.get(one) for one in all_blocks(schedule)]
    position = [one.name_hint for one in blocks].index(block.name_hint)
    features = {
        "flops": 2.0 * math.prod(spatial) * depth,
        "outer": float(math.prod(spatial[:AXIS])),
        "rows": float(spatial[AXIS]) if len(spatial) > 1 else 1.0,
        "columns": float(spatial[-1]),
        "depth": float(depth),
        "before": float(position),
        "behind": float(len(blocks) - position - 1),
        "reductions": float(sum(not is_spatial(schedule, one) for one in all_blocks(schedule))),
    }
    tile = tile_of(schedule, anchor)
    return {**features, "tile": float(tile)} if tile is not None else features
