"""The one ordering of all passes, as data: a list of named steps, each from some level on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import relax

from ..errors import CompileError, UsageError
from ..targets import Target
from .convert_layout import convert_layout
from .copy_aliased_outputs import copy_aliased_outputs
from .decompose_conv_transpose import decompose_conv_transpose
from .explain_fusion import explain_fusion
from .explanations import Explanations, listening
from .flatten_rows import flatten_rows
from .fold_affine import fold_affine
from .fold_constants import fold_constants
from .fold_padding import fold_padding
from .fuse_attention import fuse_attention
from .fuse_normalization import fuse_normalization
from .integer_arithmetic import integer_arithmetic
from .join_in_place import join_in_place
from .legalize import legalize
from .lift_conv1d import lift_conv1d
from .mark_resizing import mark_resizing
from .merge_functions import merge_functions
from .name_dims import name_dims
from .narrow_operands import narrow_operands
from .order_bindings import order_bindings
from .order_scalars import order_scalars
from .outline_branches import outline_branches
from .permute_tables import permute_tables
from .relax_alignment import relax_alignment
from .select_kernels import select_kernels
from .tabulate_bytes import mark_lookups, tabulate_bytes
from .to_dataflow import to_dataflow
from .unify_scalars import unify_scalars
from .vectorize_extremes import vectorize_extremes
from .vectorize_math import vectorize_math
from .widen_halves import widen_halves

T = relax.transform

LEVELS = ("O0", "O1", "O2", "O3")
"""O0: nothing but what is needed to run. O1: safe clean-up. O2: everything whose error stays at fp32 rounding.
O3: approximations past that, each with its stated bound (none yet)."""

Run = Callable[[tvm.IRModule, Target], tuple[tvm.IRModule, int | None]]


@dataclass(frozen=True)
class Step:
    """``run`` returns the module and how often the pass applied (None where TVM doesn't say).

    ``machines`` are the kinds of target that it is for; ``explain`` says of the module after it why it did not apply.
    """

    name: str
    level: str
    run: Run
    machines: tuple[str, ...] = ("cpu", "gpu")
    explain: Callable[[tvm.IRModule], None] | None = None


@dataclass(frozen=True)
class StepReport:
    name: str
    applied: int | None
    seconds: float


def _counted(function: Callable[[tvm.IRModule], tuple[tvm.IRModule, int]]) -> Run:
    return lambda mod, _target: function(mod)


def _tvm(*passes: tvm.transform.Pass) -> Run:
    return lambda mod, _target: (tvm.transform.Sequential(list(passes))(mod), None)


_CLEAN = _tvm(T.CanonicalizeBindings(), T.DeadCodeElimination())
_FUSE = _tvm(T.FuseTIR(), T.DeadCodeElimination())

PIPELINE: tuple[Step, ...] = (
    Step("outline_branches", "O0", _counted(outline_branches)),
    Step("tabulate_bytes", "O1", _counted(tabulate_bytes), ("cpu",)),
    Step("integer_arithmetic", "O1", _counted(integer_arithmetic), ("cpu",)),
    Step("clean", "O1", _CLEAN),
    Step("fold_constants", "O1", _counted(fold_constants)),
    Step("eliminate_common_subexpressions", "O1", _tvm(T.EliminateCommonSubexpr(), T.CanonicalizeBindings())),
    Step("widen_halves", "O1", _counted(widen_halves), ("cpu",)),
    Step("fuse_normalization", "O2", _counted(fuse_normalization), ("cpu",)),
    Step("fold_affine", "O2", _counted(fold_affine)),
    Step("fold_padding", "O2", _counted(fold_padding)),
    Step("lift_conv1d", "O2", _counted(lift_conv1d)),
    Step("decompose_conv_transpose", "O2", _counted(decompose_conv_transpose)),
    Step("drop_dead_code", "O1", _tvm(T.DeadCodeElimination())),
    Step("convert_layout", "O2", _counted(convert_layout)),
    Step("fold_layout_constants", "O2", _counted(fold_constants)),
    Step("clean_layout", "O2", _CLEAN),
    Step("copy_aliased_outputs", "O0", _counted(copy_aliased_outputs)),
    Step("fuse_attention", "O2", fuse_attention),
    Step("drop_absorbed", "O2", _tvm(T.DeadCodeElimination())),
    Step("narrow_operands", "O0", narrow_operands, ("gpu",)),
    Step("select_kernels", "O1", select_kernels, ("cpu",)),
    Step("vectorize_extremes", "O1", _counted(vectorize_extremes), ("cpu",)),
    Step("legalize", "O0", lambda mod, target: (legalize(mod, target), None)),
    Step("name_dims", "O1", _counted(name_dims)),  # before fusion, which compares dims by structure
    Step("order_scalars", "O0", _counted(order_scalars)),
    Step("merge_kernels", "O0", _counted(merge_functions)),
    Step("to_dataflow", "O1", _counted(to_dataflow)),
    Step("annotate", "O1", _tvm(T.AnnotateTIROpPattern())),
    Step("mark_resizing", "O1", _counted(mark_resizing)),
    Step("mark_lookups", "O1", _counted(mark_lookups), ("cpu",)),
    Step("group", "O1", _tvm(T.FuseOps()), explain=explain_fusion),
    Step("unify_scalars", "O1", _counted(unify_scalars)),
    Step("order_fused_scalars", "O1", _counted(order_scalars)),
    Step("merge_fused", "O1", _counted(merge_functions)),
    Step("fuse", "O1", _FUSE),
    Step("order_bindings", "O1", _counted(order_bindings)),
    Step("name_fused_dims", "O1", _counted(name_dims)),  # and after, as fusion puts the graph's dims back
    Step("order_kernel_scalars", "O1", _counted(order_scalars)),  # named dims need no sizes beside
    Step("merge_fused_kernels", "O1", _counted(merge_functions)),
    Step("flatten_rows", "O1", _counted(flatten_rows), ("cpu",)),
    Step("drop_unused_views", "O1", _tvm(T.DeadCodeElimination()), ("cpu",)),
)
"""Before scheduling."""

FINISHING: tuple[Step, ...] = (
    Step("join_in_place", "O2", lambda mod, target: join_in_place(mod, target.vector_lanes), ("cpu",)),
    Step("vectorize_math", "O0", _counted(vectorize_math), ("cpu",)),
    Step("permute_tables", "O1", permute_tables, ("cpu",)),
    Step("relax_alignment", "O0", _counted(relax_alignment)),
)
"""On scheduled functions, which no longer need to look simple."""


def steps_for(level: str, steps: tuple[Step, ...] = PIPELINE) -> list[Step]:
    """The steps of a level, in order. Raises UsageError for a level that doesn't exist."""
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}", hint=f"levels are {', '.join(LEVELS)}")
    return [step for step in steps if LEVELS.index(step.level) <= LEVELS.index(level)]


class Pipeline:
    """Runs steps on a module and keeps the reports; ``dump`` is a folder that gets the module after each step."""

    def __init__(self, level: str, dump: Path | None = None):
        self.level = level
        self.dump = dump
        self.reports: list[StepReport] = []
        self.explanations = Explanations()
        self._dumped = 0

    def forget(self) -> None:
        """As if nothing had been run: another choice begins anew."""
        self.reports.clear()
        self.explanations = Explanations()
        self._dumped = 0

    def optimize(self, mod: tvm.IRModule, target: Target) -> tvm.IRModule:
        """What comes before scheduling."""
        self.dump_module(mod, "imported")
        return self._run(steps_for(self.level), mod, target)

    def finish(self, mod: tvm.IRModule, target: Target) -> tvm.IRModule:
        """What comes after scheduling."""
        self.dump_module(mod, f"scheduled_{target.isa.name}")
        return self._run(steps_for(self.level, FINISHING), mod, target)

    def _run(self, steps: list[Step], mod: tvm.IRModule, target: Target) -> tvm.IRModule:
        machine = "gpu" if target.is_gpu else "cpu"
        for step in (step for step in steps if machine in step.machines):
            start = time.perf_counter()
            try:
                with listening(self.explanations, step.name):
                    mod, applied = step.run(mod, target)
                    if step.explain:
                        step.explain(mod)
            except (tvm.error.InternalError, RuntimeError, ValueError, TypeError) as error:
                raise CompileError(
                    f"pass {step.name} failed after {_names(self.reports)}: {str(error).strip().splitlines()[-1]}",
                    hint="report the model; a lower --level may compile it meanwhile",
                ) from error
            self.reports.append(StepReport(step.name, applied, time.perf_counter() - start))
            self.dump_module(mod, step.name)
        return mod

    def dump_text(self, text: str, name: str) -> None:
        """Write ``text`` beside the modules, if they are dumped."""
        if self.dump is not None:
            self.dump.mkdir(parents=True, exist_ok=True)
            (self.dump / name).write_text(text)

    def dump_module(self, mod: tvm.IRModule, name: str) -> None:
        if self.dump is not None:
            self.dump.mkdir(parents=True, exist_ok=True)
            (self.dump / f"{self._dumped:02}_{name}.py").write_text(mod.script(show_meta=False))
            self._dumped += 1


def _names(reports: list[StepReport]) -> str:
    return ", ".join(report.name for report in reports) or "no other pass"
