"""ONNX Runtime's CPU provider, with its default optimizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def import_library() -> None:
    """Import ONNX Runtime."""
    import onnxruntime  # noqa: F401


def open_session(job: dict[str, Any]) -> Callable[[dict[str, Any]], list[Any]]:
    """An InferenceSession over the model file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)
