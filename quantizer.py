"""Quantization on one page: find ranges with the float model, then rewrite the ONNX graph with integers in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common

from .artifacts.session import Session
from .contract import Contract
from .errors import InputError, UsageError
from .frontend import ModelSource, Rewrite
from .quantization.calibration_data import samples
from .quantization.calibration_file import Calibration, is_calibration_file, read_calibration, write_calibration
from .quantization.calibrators import CALIBRATORS, Observer
from .quantization.fold_scales import fold_scales
from .quantization.insert_pairs import insert_pairs
from .quantization.parameters import Range, affine_of
from .quantization.plan import Plan, make_plan, unknown_patterns
from .quantization.settings import Settings

Opened = Callable[[Rewrite, Callable[[Contract], None]], AbstractContextManager[Session]]
"""Compiles the model for this machine, as rewritten, and opens it; the second is asked before the long part."""

Progress = Callable[[str, int, int], None]


@dataclass
class Quantized:
    """How a model becomes integers: ``rewrite`` is what to do with it. ``calibration`` may come of a file, whose model
    is compared when ``rewrite`` sees it. ``report`` goes into the manifest once ``rewrite`` has run.
    """

    settings: Settings
    calibration: Calibration | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def rewrite(self, model: ir.Model, source: ModelSource) -> None:
        """Fold scales, insert pairs. Raises UsageError when the calibration is not this model's."""
        found = self.calibration
        if found is None:
            found = read_calibration(Path(self.settings.calibrate), source.sha256, dict(source.external))
        plan = _plan(model, self.settings, found.in_float)
        scales = {value.name or "": affine_of(_range_of(found, value)) for value in plan.measured}
        insert_pairs(model, plan, scales)
        common.RemoveUnusedNodesPass()(model)
        self.report.update(_report(self.settings, found, plan))

    def save(self, path: Path) -> None:
        """Write the calibration for later builds. Raises UsageError where it came of a file, or can't be written."""
        if self.calibration is None:
            raise UsageError("there is no new calibration to save: it was read from a file")
        write_calibration(self.calibration, path)


def quantize(settings: Settings, opened: Opened, progress: Progress) -> Quantized:
    """Calibrate, unless an earlier calibration is given. Raises UsageError, InputError, ModelError, CompileError."""
    if is_calibration_file(settings.calibrate):
        return Quantized(settings)
    return Quantized(settings, _calibrate(settings, opened, progress))


def _plan(model: ir.Model, settings: Settings, in_float: tuple[str, ...] = ()) -> Plan:
    fold_scales(model)
    unknown = unknown_patterns(model.graph, settings.selection)
    if unknown:
        raise UsageError(f"nothing in the model is called {', '.join(map(repr, unknown))}, which --exclude names")
    plan = make_plan(model.graph, settings.selection, in_float)
    if not plan.layers and not in_float:
        raise UsageError("no layer can be quantized: there is no Conv, Gemm or MatMul with constant float32 weights")
    return plan


def _range_of(calibration: Calibration, value: ir.Value) -> Range:
    try:
        return calibration.ranges[value.name or ""]
    except KeyError:
        raise UsageError(
            f"the calibration has no range for the value {value.name!r}",
            hint="it was made with other exclusions or versions: calibrate again",
        ) from None


@dataclass
class _Observation:
    """The float model with every value that is to be rounded as an output, and what was seen of them."""

    settings: Settings
    source: ModelSource | None = None
    seen: dict[str, Observer] = field(default_factory=dict)
    inner: list[str] = field(default_factory=list)

    def rewrite(self, model: ir.Model, source: ModelSource) -> None:
        plan = _plan(model, self.settings)
        self.source = source
        self.seen = {value.name or "": CALIBRATORS[self.settings.calibrator]() for value in plan.measured}
        inner = [value for value in plan.measured if not value.is_graph_input()]
        self.inner = [value.name or "" for value in inner]
        model.graph.outputs[:] = inner or [plan.layers[-1].node.outputs[0]]
        common.RemoveUnusedNodesPass()(model)

    def check(self, contract: Contract) -> None:
        """Look at the first sample before the long part."""
        next(samples(self.settings.calibrate, contract))

    def run(self, session: Session, progress: Progress) -> int:
        """See every sample; returns how many there were."""
        count = 0
        for count, feeds in enumerate(samples(self.settings.calibrate, session.contract), start=1):
            found = dict(zip(self.inner, session.run(self.inner, feeds), strict=True))
            for name, observer in self.seen.items():
                observer.see(found[name] if name in found else feeds[name])
            progress("calibrate", count, count)
        return count


def _calibrate(settings: Settings, opened: Opened, progress: Progress) -> Calibration:
    observation = _Observation(settings)
    with opened(observation.rewrite, observation.check) as session:
        count = observation.run(session, progress)
    seen, source = observation.seen, observation.source
    assert source is not None
    lost = [name for name, observer in seen.items() if not observer.finite]
    if lost:
        raise InputError(
            f"the value {lost[0]!r} is NaN or infinite for some calibration sample",
            hint="leave out such samples, or the nodes that read it: --exclude NODE",
        )
    ranges = {name: observer.range() for name, observer in seen.items()}
    still = [name for name, found in ranges.items() if found.low == found.high]
    notes = tuple(f"value {name!r} was {ranges[name].low:g} throughout the calibration data" for name in still)
    return Calibration(source.sha256, dict(source.external), settings.calibrator, count, ranges, notes=notes)


def _report(settings: Settings, calibration: Calibration, plan: Plan) -> Mapping[str, Any]:
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
