"""tract, its model specialised for the shapes of the feeds: it has no better way with open dims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_KINDS = {
    "float16": "f16", "float32": "f32", "float64": "f64", "int8": "i8", "int16": "i16", "int32": "i32",
    "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
}  # fmt: skip


def import_library() -> None:
    """Import tract."""
    import tract  # noqa: F401


def open_session(job: dict[str, Any]) -> Callable[[dict[str, Any]], list[Any]]:
    """An optimized, runnable model."""
    import tract

    model = tract.onnx().load(job["model"])
    names = [model.input_name(index) for index in range(model.input_count())]
    for index, name in enumerate(names):
        dtype, shape = job["feeds_of"][name]
        model.set_input_fact(index, ",".join([*map(str, shape), _KINDS[dtype]]))
    runnable = model.into_model().into_runnable()
    return lambda feeds: [output.to_numpy() for output in runnable.run([feeds[name] for name in names])]
