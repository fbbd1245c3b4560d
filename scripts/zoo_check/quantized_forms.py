"""Models as ONNX Runtime's own tools rewrite them: quantized statically in both of its forms, or dynamically, or with
the fused operators of its transformer optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.version_converter

from zoo_check.cases import Feeds

PER_AXIS_SINCE = 13
"""The first opset in which scales may differ along an axis."""


def prepare(source: Path, target: Path) -> None:
    """The float model as the quantizer wants it: shapes inferred, normalizations folded, opset 13 or later."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(source)
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset < PER_AXIS_SINCE:
        onnx.save(onnx.version_converter.convert_version(model, PER_AXIS_SINCE), target)
        source = target
    quant_pre_process(source, target, skip_symbolic_shape=True)


def _static(form: str) -> Callable[[Path, Path, Sequence[Feeds]], None]:
    def build(source: Path, target: Path, feeds: Sequence[Feeds]) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

        class Samples(CalibrationDataReader):
            def __init__(self) -> None:
                self._left = iter(feeds)

            def get_next(self) -> dict[str, Any] | None:
                return next(self._left, None)

        quantize_static(source, target, Samples(), quant_format=QuantFormat[form], per_channel=True)

    return build


def _dynamic(source: Path, target: Path, feeds: Sequence[Feeds]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, weight_type=QuantType.QInt8)


def _transformer(source: Path, target: Path, feeds: Sequence[Feeds]) -> None:
    """Level 0 leaves out ONNX Runtime's general optimizations, for which the tool would need PyTorch."""
    from onnxruntime.transformers.optimizer import optimize_model

    optimize_model(str(source), model_type="bert", opt_level=0).save_model_to_file(str(target))


FORMS: dict[str, Callable[[Path, Path, Sequence[Feeds]], None]] = {
    "qdq": _static("QDQ"),
    "qoperator": _static("QOperator"),
    "dynamic": _dynamic,
    "transformer": _transformer,
}
"""Each makes ``target`` of ``source``; the feeds are what ranges are taken from."""


def operators(path: Path) -> dict[str, int]:
    """How many nodes there are of each operator that the tools put in."""
    counts: dict[str, int] = {}
    for node in onnx.load(path, load_external_data=False).graph.node:
        if node.domain or "Integer" in node.op_type or "Linear" in node.op_type:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
