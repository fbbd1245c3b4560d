"""Quantization on one page: find ranges with the float model, put integers into the graph, keep an accuracy budget."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from .artifacts.session import Session
from .contract import Contract
from .errors import AccuracyError, InputError, UsageError
from .frontend import ModelSource, Rewrite
from .quantization.accuracy import COMPARISONS, Budget, evaluated, fewest
from .quantization.calibration_data import samples
from .quantization.calibration_file import Calibration, is_calibration_file, read_calibration, write_calibration
from .quantization.calibrators import CALIBRATORS, Observer
from .quantization.fold_scales import fold_scales
from .quantization.insert_dynamic import insert_dynamic
from .quantization.insert_pairs import insert_pairs
from .quantization.layer_noise import Noise, add_copies, add_up
from .quantization.parameters import Affine8, Range, affine_of
from .quantization.plan import Plan, make_plan, unknown_patterns
from .quantization.settings import STATIC, Settings


class Workbench(Protocol):
    """Builds of the model for this machine: for what has to be measured before it can be decided."""

    def opened(self, rewrite: Rewrite, check: Callable[[Contract], None]) -> AbstractContextManager[Session]:
        """The model as ``rewrite`` leaves it, compiled; ``check`` is asked before the long part."""

    def opened_file(self, path: Path) -> AbstractContextManager[Session]:
        """Another model, compiled."""

    def visit(self, look: Rewrite) -> None:
        """Show the normalised model."""


ONE_FILE = 1 << 30
"""Bytes of tensors up to which a quantized ONNX model is one file: protobuf ends at 2 GiB."""

Progress = Callable[[str, int, int], None]


@dataclass
class Quantized:
    """How a model becomes integers: ``rewrite`` is what to do with it.

    ``calibration`` may come of a file, whose model is compared when ``rewrite`` sees it; then it is None until that.
    ``report`` goes into the manifest, ``noises`` has every layer's noise where it was measured, ``reasons`` says why
    layers stay in floating point.
    """

    settings: Settings
    calibration: Calibration | None = None
    report: dict[str, Any] = field(default_factory=dict)
    noises: dict[str, Noise] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def has_data(self) -> bool:
        """Whether there are samples to measure with."""
        return self.settings.calibrate is not None and not is_calibration_file(self.settings.calibrate)

    def resolve(self, source: ModelSource) -> Calibration:
        """The calibration, tied to this model. Raises UsageError when it comes of a file for another one."""
        found = self.calibration
        if found is None:
            found = read_calibration(Path(self.settings.calibrate), source.sha256, dict(source.external))
        self.calibration = replace(found, sha256=source.sha256, external=dict(source.external))
        return self.calibration

    def rewrite(self, model: ir.Model, source: ModelSource) -> None:
        """Fold scales, put integers in. Raises UsageError when the calibration is not this model's."""
        found = self.resolve(source)
        plan = make_plan_for(model, self.settings, found.in_float)
        if self.settings.scheme == STATIC:
            insert_pairs(model, plan, scales_of(found, plan))
        else:
            insert_dynamic(model, plan)
        common.RemoveUnusedNodesPass()(model)
        self.report.update(_report(self.settings, found, plan))

    def save(self, path: Path) -> None:
        """Write the calibration for later builds, once ``rewrite`` has run. Raises UsageError where it can't be."""
        assert self.calibration is not None
        write_calibration(self.calibration, path)


def quantize(settings: Settings, bench: Workbench, progress: Progress) -> Quantized:
    """Calibrate, unless an earlier calibration is given; then find the layers that the budget leaves in floating point.

    Raises UsageError, InputError (the data), AccuracyError (the budget), ModelError, CompileError.
    """
    if is_calibration_file(settings.calibrate):
        return Quantized(settings)
    if settings.scheme == STATIC:
        found = _calibrate(settings, bench, progress)
    else:
        found = Calibration("", {}, "none", 0, {})
    quantized = Quantized(settings, found)
    if settings.budget is not None:
        _keep_budget(quantized, settings.budget, bench, progress)
    return quantized


def make_plan_for(model: ir.Model, settings: Settings, in_float: Sequence[str] = ()) -> Plan:
    """Fold scales in place, then plan. Raises UsageError where exclusions match nothing, or nothing is left."""
    fold_scales(model)
    unknown = unknown_patterns(model.graph, settings.selection)
    if unknown:
        raise UsageError(f"nothing in the model is called {', '.join(map(repr, unknown))}, which --exclude names")
    plan = make_plan(model.graph, settings.selection, in_float, carry=settings.scheme == STATIC)
    if not plan.layers and not in_float:
        raise UsageError("no layer can be quantized: there is no Conv, Gemm or MatMul with constant float32 weights")
    return plan


def scales_of(calibration: Calibration, plan: Plan) -> dict[str, Affine8]:
    """The scale of each value that is measured, by name. Raises UsageError where the calibration lacks one."""
    found: dict[str, Affine8] = {}
    for value in plan.measured:
        name = value.name or ""
        if name not in calibration.ranges:
            raise UsageError(
                f"the calibration has no range for the value {name!r}",
                hint="it was made with other exclusions or versions: calibrate again",
            )
        found[name] = affine_of(calibration.ranges[name])
    return found


@dataclass
class _Observation:
    """The float model with every value that is to be rounded as an output, and what was seen of them."""

    settings: Settings
    seen: dict[str, Observer] = field(default_factory=dict)
    inner: list[str] = field(default_factory=list)

    def rewrite(self, model: ir.Model, _source: ModelSource) -> None:
        plan = make_plan_for(model, self.settings)
        # All values, also those that share a scale: with more layers in floating point they have one of their own.
        self.seen = {value.name or "": CALIBRATORS[self.settings.calibrator]() for value in plan.values}
        inner = [value for value in plan.values if not value.is_graph_input()]
        self.inner = [value.name or "" for value in inner]
        model.graph.outputs[:] = inner or [plan.layers[-1].node.outputs[0]]
        common.RemoveUnusedNodesPass()(model)

    def run(self, session: Session, progress: Progress) -> int:
        """See every sample; returns how many there were."""
        count = 0
        for count, feeds in enumerate(samples(self.settings.calibrate, session.contract), start=1):
            found = dict(zip(self.inner, session.run(self.inner, feeds), strict=True))
            for name, observer in self.seen.items():
                observer.see(found[name] if name in found else feeds[name])
            progress("calibrate", count, count)
        return count


def _calibrate(settings: Settings, bench: Workbench, progress: Progress) -> Calibration:
    observation = _Observation(settings)
    with bench.opened(observation.rewrite, lambda contract: _check_data(settings, contract)) as session:
        count = observation.run(session, progress)
    lost = [name for name, observer in observation.seen.items() if not observer.finite]
    if lost:
        raise InputError(
            f"the value {lost[0]!r} is NaN or infinite for some calibration sample",
            hint="leave out such samples, or the nodes that read it: --exclude NODE",
        )
    ranges = {name: observer.range() for name, observer in observation.seen.items()}
    notes = tuple(_still(name, found) for name, found in ranges.items() if found.low == found.high)
    return Calibration("", {}, settings.calibrator, count, ranges, notes=notes)


def _still(name: str, found: Range) -> str:
    return f"value {name!r} was {found.low:g} throughout the calibration data"


def _check_data(settings: Settings, contract: Contract) -> None:
    """Look at the first sample before the long part."""
    if settings.calibrate is not None:
        next(samples(settings.calibrate, contract))


def measure_noise(quantized: Quantized, bench: Workbench, progress: Progress) -> dict[str, Noise]:
    """The noise of each layer by itself, over the calibration data."""
    settings, calibration = quantized.settings, quantized.calibration
    assert calibration is not None
    noises: dict[str, Noise] = {}

    def rewrite(model: ir.Model, _source: ModelSource) -> None:
        plan = make_plan_for(model, settings)
        scales = scales_of(calibration, plan) if settings.scheme == STATIC else None
        noises.update({name: Noise() for name in add_copies(model, plan, scales)})
        common.RemoveUnusedNodesPass()(model)

    with bench.opened(rewrite, lambda contract: _check_data(settings, contract)) as session:
        for count, feeds in enumerate(samples(settings.calibrate, session.contract), start=1):
            add_up(noises, session.run(None, feeds))
            progress("measure noise", count, count)
    return noises


def _keep_budget(quantized: Quantized, budget: Budget, bench: Workbench, progress: Progress) -> None:
    """Leave layers in floating point, those with the most noise first, until the budget holds."""
    settings = quantized.settings
    if settings.calibrate is None:
        raise UsageError("an accuracy budget needs calibration data", hint="they tell which layers lose most")
    calibration = quantized.calibration
    assert calibration is not None
    tried: dict[int, float] = {}
    with bench.opened(lambda *_: None, lambda contract: _check_data(settings, contract)) as exact:
        goal = 1.0 if budget.metric in COMPARISONS else evaluated(budget.metric, exact)
        order: list[str] = []

        def holds(in_float: Sequence[str]) -> bool:
            candidate = Quantized(settings, replace(calibration, in_float=tuple(in_float)))
            with bench.opened(candidate.rewrite, lambda _contract: None) as session:
                value = _measured(budget, settings, exact, session)
            tried[len(in_float)] = value
            progress(f"{budget.name} {value:.4f} with {len(in_float)} layers in float", 1, 1)
            return value >= budget.least(goal)

        chosen: list[str] | None = []
        if not holds([]):
            quantized.noises = measure_noise(quantized, bench, progress)
            order = sorted(quantized.noises, key=lambda name: quantized.noises[name].decibels)
            chosen = fewest(order[:-1], lambda names: bool(names) and holds(names))
    if chosen is None:
        best = max(tried.values())
        raise AccuracyError(
            f"the budget ({budget}) can't be met: fp32 has {goal:.6g}, at least {budget.least(goal):.6g} is asked for, "
            f"and quantized models came to {best:.6g} at best, with all layers but one in floating point",
            hint="allow a larger drop, try another calibrator, or compile without --quantize",
        )
    quantized.calibration = replace(calibration, in_float=tuple(chosen))
    quantized.reasons.update(dict.fromkeys(chosen, "accuracy budget"))
    quantized.report["budget"] = {
        "metric": budget.name,
        "least": budget.least(goal),
        "float": goal,
        "quantized": tried[len(chosen)],
    }


def _measured(budget: Budget, settings: Settings, exact: Session, session: Session) -> float:
    if not (isinstance(budget.metric, str) and budget.metric in COMPARISONS):
        return evaluated(budget.metric, session)

    def pairs() -> Iterator[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]]:
        for feeds in samples(settings.calibrate, exact.contract):
            yield exact.run(None, feeds), session.run(None, feeds)

    return COMPARISONS[budget.metric](pairs())


def _report(settings: Settings, calibration: Calibration, plan: Plan) -> dict[str, Any]:
    return {
        "scheme": settings.scheme,
        "calibrator": calibration.calibrator,
        "samples": calibration.samples,
        "int8": [layer.name for layer in plan.layers],
        "carried": [node.op_type for node in plan.carriers],
        "float": list(calibration.in_float),
        "excluded": [*settings.selection.nodes, *(f"op:{op}" for op in settings.selection.ops)],
        "notes": list(calibration.notes),
    }


def write_onnx(quantized: Quantized, bench: Workbench, path: Path) -> None:
    """Write the model with its integers as an ONNX file; tensors past 1 GB go into a file beside it."""

    def write(model: ir.Model, source: ModelSource) -> None:
        quantized.rewrite(model, source)
        total = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if total > ONE_FILE:
                ir.save(model, path, external_data=f"{path.name}.data")
            else:
                ir.save(model, partial)
                partial.replace(path)
        except OSError as error:
            raise UsageError(f"the quantized model can't be written to {path}: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)

    bench.visit(write)
