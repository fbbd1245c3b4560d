"""Small models for tests of reading: one MatMul with its weight inside the file or beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def external(name: str, array: np.ndarray, **entries: object) -> onnx.TensorProto:
    """A tensor whose bytes are elsewhere; ``entries`` are those of its ``external_data``."""
    kind = oh.np_dtype_to_tensor_dtype(array.dtype)
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=array.shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def matmul(weight: onnx.TensorProto, nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    graph = oh.make_graph(
        nodes or [oh.make_node("MatMul", ["x", "w"], ["y"], name="multiply")],
        "tiny",
        [oh.make_tensor_value_info("x", 1, ["n", 3])],
        [oh.make_tensor_value_info("y", 1, None)],
        [weight],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)


def inside(**changes: object) -> onnx.ModelProto:
    """The model with its weight in the file."""
    model = matmul(oh.make_tensor("w", 1, WEIGHT.shape, WEIGHT.tobytes(), raw=True))
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write the message as it is: ``onnx.save`` would look at external data."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path
