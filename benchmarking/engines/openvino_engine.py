"""OpenVINO's CPU plugin, in float32 (on processors with bfloat16 it would otherwise compute in that), for latency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def import_library() -> None:
    """Import OpenVINO."""
    import openvino  # noqa: F401


def open_session(job: dict[str, Any]) -> Callable[[dict[str, Any]], list[Any]]:
    """A compiled model, its dims fixed where the artifact's are."""
    import openvino

    core = openvino.Core()
    model = core.read_model(job["model"])
    shapes = {name: openvino.PartialShape([-1 if d is None else d for d in dims]) for name, dims in job["dims"].items()}
    if any(port.partial_shape != shapes[port.any_name] for port in model.inputs):
        model.reshape({port: shapes[port.any_name] for port in model.inputs})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": job["threads"],
        "NUM_STREAMS": 1,
    }
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run(feeds: dict[str, Any]) -> list[Any]:
        results = request.infer(feeds)
        return [results[port] for port in compiled.outputs]

    return run
