"""What is measured before a model can be quantized: ranges, sizes of channels, the noise of each layer.

All of it with the float model, compiled for this machine with other outputs, sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from .artifacts.session import Session
from .contract import Contract
from .errors import InputError, UsageError
from .frontend import ModelSource, Rewrite
from .quantization.calibration_data import samples
from .quantization.calibration_file import Calibration
from .quantization.calibrators import CALIBRATORS, Observer
from .quantization.correct_biases import correct_biases
from .quantization.equalize_layers import equalize_layers
from .quantization.fold_scales import fold_scales
from .quantization.layer_noise import Noise, add_copies, add_up
from .quantization.layers import Layer
from .quantization.parameters import Affine8, Range, affine_of
from .quantization.plan import Plan, make_plan, unknown_patterns
from .quantization.settings import EQUALIZE, SMOOTH, STATIC, Settings
from .quantization.smooth_channels import factors_of, smooth_channels, smoothable

Progress = Callable[[str, int, int], None]


class Workbench(Protocol):
    """Builds of the model for this machine: for what has to be measured before it can be decided."""

    def opened(self, rewrite: Rewrite, check: Callable[[Contract], None]) -> AbstractContextManager[Session]:
        """The model as ``rewrite`` leaves it, compiled; ``check`` is asked before the long part."""

    def opened_file(self, path: Path) -> AbstractContextManager[Session]:
        """Another model, compiled."""

    def visit(self, look: Rewrite) -> None:
        """Show the normalised model."""


def make_plan_for(
    model: ir.Model, settings: Settings, known: Calibration | None = None, in_float: Sequence[str] = ()
) -> Plan:
    """Fold scales and do the improvements in place, then plan.

    ``known`` is what calibration found so far. Raises UsageError where exclusions match nothing, or nothing is left.
    """
    fold_scales(model)
    if EQUALIZE in (settings.improve if known is None else known.improve):
        equalize_layers(model.graph)
    unknown = unknown_patterns(model.graph, settings.selection)
    if unknown:
        raise UsageError(f"nothing in the model is called {', '.join(map(repr, unknown))}, which --exclude names")
    plan = make_plan(model.graph, settings.selection, carry=settings.scheme == STATIC)
    if known is not None:
        smooth_channels(model.graph, plan, known.smoothing)
        correct_biases(model.graph, known.shifts)
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
    known: Calibration
    seen: dict[str, Observer] = field(default_factory=dict)
    inner: list[str] = field(default_factory=list)

    def rewrite(self, model: ir.Model, _source: ModelSource) -> None:
        plan = make_plan_for(model, self.settings, self.known)
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


def calibrate(settings: Settings, bench: Workbench, progress: Progress) -> Calibration:
    """The ranges of all values that are to be rounded (none in dynamic quantization), and factors of smoothing.

    Raises InputError where a value isn't finite.
    """
    static = settings.scheme == STATIC
    known = Calibration("", {}, settings.calibrator if static else "none", 0, {}, improve=settings.improve)
    if SMOOTH in settings.improve:
        known = replace(known, smoothing=_smoothing(settings, known, bench, progress))
    if not static:
        return known
    observation = _Observation(settings, known)
    with bench.opened(observation.rewrite, lambda contract: check_data(settings, contract)) as session:
        count = observation.run(session, progress)
    lost = [name for name, observer in observation.seen.items() if not observer.finite]
    if lost:
        raise InputError(
            f"the value {lost[0]!r} is NaN or infinite for some calibration sample",
            hint="leave out such samples, or the nodes that read it: --exclude NODE",
        )
    ranges = {name: observer.range() for name, observer in observation.seen.items()}
    notes = tuple(_still(name, found) for name, found in ranges.items() if found.low == found.high)
    return replace(known, samples=count, ranges=ranges, notes=notes)


@dataclass
class _ChannelSizes:
    """The float model with the data of matrix products as outputs: how large each channel, along the last axis, is."""

    settings: Settings
    known: Calibration
    largest: dict[str, np.ndarray] = field(default_factory=dict)
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def observe(self, model: ir.Model, _source: ModelSource) -> None:
        plan = make_plan_for(model, self.settings, self.known)
        found = smoothable(plan)
        self.largest = {value.name or "": np.zeros(_inputs(layers[0])) for value, layers in found.items()}
        inner = [value for value in found if not value.is_graph_input()]
        model.graph.outputs[:] = inner or [plan.layers[-1].node.outputs[0]]
        common.RemoveUnusedNodesPass()(model)

    def see(self, found: dict[str, np.ndarray]) -> None:
        for name, sizes in self.largest.items():
            array = found[name]
            if array.size:
                np.maximum(sizes, np.abs(array.reshape(-1, array.shape[-1])).max(axis=0), out=sizes)

    def choose(self, model: ir.Model, _source: ModelSource) -> None:
        plan = make_plan_for(model, self.settings, self.known)
        for value, layers in smoothable(plan).items():
            sizes = self.largest[value.name or ""]
            if np.isfinite(sizes).all():
                self.factors[value.name or ""] = tuple(float(x) for x in factors_of(sizes, layers))


def _inputs(layer: Layer) -> int:
    return layer.weight.shape[1 - layer.axis]


def _smoothing(
    settings: Settings, known: Calibration, bench: Workbench, progress: Progress
) -> dict[str, tuple[float, ...]]:
    sizes = _ChannelSizes(settings, known)
    with bench.opened(sizes.observe, lambda contract: check_data(settings, contract)) as session:
        names = [output.name for output in session.get_outputs()]
        for count, feeds in enumerate(samples(settings.calibrate, session.contract), start=1):
            sizes.see({**feeds, **dict(zip(names, session.run(None, feeds), strict=True))})
            progress("measure channels", count, count)
    bench.visit(sizes.choose)
    return sizes.factors


def shifts_of(noises: dict[str, Noise]) -> dict[str, tuple[float, ...]]:
    """The mean difference of each channel of the layers with biases."""
    return {
        name: tuple(float(x) for x in noise.shift / max(noise.samples, 1))
        for name, noise in noises.items()
        if noise.shift is not None and np.isfinite(noise.shift).all()
    }


def _still(name: str, found: Range) -> str:
    return f"value {name!r} was {found.low:g} throughout the calibration data"


def check_data(settings: Settings, contract: Contract) -> None:
    """Look at the first sample before the long part."""
    if settings.calibrate is not None:
        next(samples(settings.calibrate, contract))


def measure_noise(
    settings: Settings, calibration: Calibration, bench: Workbench, progress: Progress
) -> dict[str, Noise]:
    """The noise of each layer by itself, over the calibration data."""
    noises: dict[str, Noise] = {}

    def rewrite(model: ir.Model, _source: ModelSource) -> None:
        plan = make_plan_for(model, settings, calibration)
        scales = scales_of(calibration, plan) if settings.scheme == STATIC else None
        noises.update(add_copies(model, plan, scales))
        common.RemoveUnusedNodesPass()(model)

    with bench.opened(rewrite, lambda contract: check_data(settings, contract)) as session:
        for count, feeds in enumerate(samples(settings.calibrate, session.contract), start=1):
            add_up(noises, session.run(None, feeds))
            progress("measure noise", count, count)
    return noises
