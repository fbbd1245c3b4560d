"""What quantization does to each layer, as rows of a table: ranges, noise, time against floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from .calibration import Progress, Workbench, make_plan_for, measure_noise
from .frontend import ModelSource
from .layer_times import measure_times
from .quantization.layer_noise import Noise
from .quantization.layers import layers_of
from .quantization.parameters import Range
from .quantization.settings import DYNAMIC
from .quantization.single_layer import LayerKind, kind_of
from .quantizer import Quantized


@dataclass(frozen=True)
class LayerRow:
    """One layer with weights. ``low`` and ``high`` bound its data (None in dynamic quantization), ``largest`` its
    weights' magnitude; ``decibels`` is its own signal-to-quantization-noise ratio. Times are in milliseconds.
    ``arithmetic`` is "int8", or "float: " and why. What was not measured is None."""

    name: str
    op_type: str
    weight: tuple[int, ...]
    low: float | None
    high: float | None
    largest: float
    decibels: float | None
    ms_float: float | None
    ms_int8: float | None
    arithmetic: str

    def to_json(self) -> dict[str, Any]:
        finite = {k: v if not isinstance(v, float) or np.isfinite(v) else str(v) for k, v in vars(self).items()}
        return {**finite, "weight": list(self.weight)}


@dataclass(frozen=True)
class _Seen:
    """A layer as the graph has it, without its tensors."""

    op_type: str
    kind: LayerKind
    data: str
    largest: float
    shared: str
    planned: bool


def layer_rows(quantized: Quantized, bench: Workbench, progress: Progress, times: bool) -> list[LayerRow]:
    """A row for each layer, in order of the graph; ``times`` are measured only where asked for."""
    seen: dict[str, _Seen] = {}

    def look(model: ir.Model, source: ModelSource) -> None:
        plan = make_plan_for(model, quantized.settings, quantized.resolve(source))
        planned = {layer.name for layer in plan.layers}
        for layer in layers_of(model.graph):
            scaled = plan.same_scale.get(layer.data, layer.data)
            largest = float(np.abs(layer.weight).max())
            seen[layer.name] = _Seen(
                layer.node.op_type,
                kind_of(layer),
                layer.data.name or "",
                largest,
                scaled.name or "",
                layer.name in planned,
            )

    bench.visit(look)
    noises = quantized.noises
    if not noises and quantized.has_data:
        assert quantized.calibration is not None
        noises = measure_noise(quantized.settings, quantized.calibration, bench, progress)
    timed = {
        name: (one.kind, noises[name].shape) for name, one in seen.items() if times and name in noises and one.planned
    }
    dynamic = quantized.settings.scheme == DYNAMIC
    found = measure_times(timed, dynamic, bench.opened_file, progress) if timed else {}
    assert quantized.calibration is not None
    ranges, in_float = quantized.calibration.ranges, quantized.calibration.in_float
    rows = []
    for name, one in seen.items():
        bounds: Range | None = ranges.get(one.shared)
        noise: Noise | None = noises.get(name)
        why = "int8" if one.planned else "float: excluded"
        rows.append(
            LayerRow(
                name,
                one.op_type,
                one.kind.weight,
                bounds.low if bounds else None,
                bounds.high if bounds else None,
                one.largest,
                noise.decibels if noise else None,
                found[name].floating if name in found else None,
                found[name].integer if name in found else None,
                f"float: {quantized.reasons.get(name, 'as calibrated')}" if name in in_float else why,
            )
        )
    return rows
