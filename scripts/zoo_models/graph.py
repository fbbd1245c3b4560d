"""Building ONNX graphs in a few words: constants, nodes, a checked model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

TensorInfo = tuple[str, Any, Sequence[int | str]]
"""Name, ONNX element type and shape of an input or output."""


class Graph:
    """Nodes and initializers in the making; every method returns the name of the value that it adds.

    ``prefix`` keeps the names of nodes apart from those of a model that they are appended to.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self._initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def indices(self, name: str, *values: int) -> str:
        """A constant of int64, one-dimensional."""
        return self.constant(name, np.array(values, np.int64))

    def node(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"{self._prefix}{op_type}_{len(self._nodes) + 1}"
        result = output or name
        self._nodes.append(helper.make_node(op_type, inputs, [result], name=name, **attributes))
        return result

    def model(
        self, name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], opset: int
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(*info) for info in inputs],
            [helper.make_tensor_value_info(*info) for info in outputs],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model)
        return model

    def append_to(self, model: onnx.ModelProto, outputs: Sequence[TensorInfo]) -> onnx.ModelProto:
        """``model`` with these nodes after its own, and ``outputs`` in place of its own; its opset stays."""
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend(self._initializers)
        del model.graph.output[:]
        model.graph.output.extend(helper.make_tensor_value_info(*info) for info in outputs)
        onnx.checker.check_model(model)
        return model
