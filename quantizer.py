"""Quantization on one page: find ranges with the float model, put integers into the graph, keep an accuracy budget."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from .artifacts.session import Session
from .calibration import Progress, Workbench, calibrate, check_data, make_plan_for, measure_noise, scales_of, shifts_of
from .errors import AccuracyError, UsageError
from .frontend import ModelSource
from .quantization.accuracy import COMPARISONS, Budget, evaluated, fewest
from .quantization.calibration_data import samples
from .quantization.calibration_file import Calibration, is_calibration_file, read_calibration, write_calibration
from .quantization.insert_dynamic import insert_dynamic
from .quantization.insert_pairs import insert_pairs
from .quantization.layer_noise import Noise
from .quantization.plan import Plan
from .quantization.round_tables import round_tables
from .quantization.settings import CORRECT, SIZE, STATIC, Settings

ONE_FILE = 1 << 30
"""Bytes of tensors up to which a quantized ONNX model is one file: protobuf ends at 2 GiB."""


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
        plan = make_plan_for(model, self.settings, found, found.in_float)
        if self.settings.scheme == STATIC:
            insert_pairs(model, plan, scales_of(found, plan))
        else:
            insert_dynamic(model, plan)
        tables = round_tables(model, self.settings.selection) if self.settings.prefer == SIZE else []
        common.RemoveUnusedNodesPass()(model)
        self.report.update(_report(self.settings, found, plan), prefer=self.settings.prefer, tables=tables)

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
    found = calibrate(settings, bench, progress)
    quantized = Quantized(settings, found)
    if CORRECT in settings.improve:
        quantized.noises = measure_noise(settings, found, bench, progress)
        quantized.calibration = replace(found, shifts=shifts_of(quantized.noises))
    if settings.budget is not None:
        _keep_budget(quantized, settings.budget, bench, progress)
    return quantized


def _keep_budget(quantized: Quantized, budget: Budget, bench: Workbench, progress: Progress) -> None:
    """Leave layers in floating point, those with the most noise first, until the budget holds."""
    settings = quantized.settings
    if settings.calibrate is None:
        raise UsageError("an accuracy budget needs calibration data", hint="they tell which layers lose most")
    calibration = quantized.calibration
    assert calibration is not None
    tried: dict[int, float] = {}
    with bench.opened(lambda *_: None, lambda contract: check_data(settings, contract)) as exact:
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
            quantized.noises = quantized.noises or measure_noise(settings, calibration, bench, progress)
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
        "improve": list(calibration.improve),
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
