"""Forms of a model that answer a task: ours and ONNX Runtime's, in fp32 and quantized."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxkiln
from accuracy_check.task import Array, Task
from zoo_check.quantized_forms import prepare


@dataclass(frozen=True)
class Form:
    """``options`` are what differs: our compile's, or what ``onnxruntime.quantization`` is to do."""

    name: str
    engine: str
    options: Mapping[str, Any]


def answers(form: Form, task: Task, model: Path, folder: Path) -> tuple[list[Array], int | None]:
    """The first output for each of the task's inputs, and the bytes of what was deployed."""
    return {"onnxkiln": _ours, "onnxruntime": _onnxruntime}[form.engine](form, task, model, folder)


def _ours(form: Form, task: Task, model: Path, folder: Path) -> tuple[list[Array], int | None]:
    options = dict(form.options)
    if options.get("quantize") == "int8" or "max_drop" in options:
        options["calibrate"] = task.calibration
    artifact = onnxkiln.compile(model, folder / form.name, force=True, include_runtime=False, **options)
    with onnxkiln.load(artifact) as session:
        found = [session.run(None, dict(feeds))[0] for feeds in task.inputs]
    return found, os.path.getsize(artifact / "weights.bin")


def _onnxruntime(form: Form, task: Task, model: Path, folder: Path) -> tuple[list[Array], int | None]:
    path = model
    if form.options:
        prepared, path = folder / "prepared.onnx", folder / f"{form.name}.onnx"
        prepare(model, prepared)
        _quantize(prepared, path, task, form.options)
    session = _session(path)
    return [session.run(None, dict(feeds))[0] for feeds in task.inputs], os.path.getsize(path)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _quantize(source: Path, target: Path, task: Task, options: Mapping[str, Any]) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    if options.get("dynamic"):
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=options["per_channel"])
        return

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(task.calibration)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    quantize_static(source, target, Samples(), quant_format=QuantFormat.QDQ, per_channel=options["per_channel"])


def forms_of(task: str, ours: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> list[Form]:
    """What is compared on a task; ``ours`` are further settings of our compiler by name."""
    options: dict[str, Any] = {"quantize": "int8", "calibrator": "percentile", "improve": ["bias"]}
    static = ("onnxkiln int8, percentile, biases corrected", "onnxkiln", options)
    dynamic = ("onnxkiln int8-dynamic", "onnxkiln", {"quantize": "int8-dynamic"})
    rows: list[tuple[str, str, Mapping[str, Any]]] = [("onnxkiln fp32", "onnxkiln", {})]
    budget = {**dynamic[2], "max_drop": "0.004", "metric": "cosine"}
    rows += [dynamic, ("onnxkiln int8-dynamic, budget", "onnxkiln", budget)] if task == "minilm_l6" else [static]
    rows += [(f"onnxkiln {name}", "onnxkiln", further) for name, further in ours]
    rows.append(("ONNX Runtime fp32", "onnxruntime", {}))
    for name, per_channel in (("per channel", True), ("per tensor", False)):
        kind = "dynamic, " if task == "minilm_l6" else ""
        theirs = {"per_channel": per_channel, "dynamic": task == "minilm_l6"}
        rows.append((f"ONNX Runtime int8 {kind}{name}", "onnxruntime", theirs))
    return [Form(*row) for row in rows]
