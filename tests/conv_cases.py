"""Convolutions for tests: graphs of them, and ONNX Runtime's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.helper as oh
import onnxruntime as ort
from pass_graphs import const, data
from tvm import relax


@dataclass(frozen=True)
class Conv:
    """``padding`` is (top, left, bottom, right)."""

    channels: int
    out: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def weight(self) -> np.ndarray:
        return data(self.out, self.channels // self.groups, *self.kernel)

    def op(self, x: relax.Expr, weight: np.ndarray) -> relax.Expr:
        options = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        return relax.op.nn.conv2d(x, const(weight), **options)

    def reference(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        options: dict[str, Any] = {
            "strides": self.strides, "pads": self.padding, "dilations": self.dilation, "group": self.groups
        }  # fmt: skip
        node = oh.make_node("Conv", ["x", "w"], ["y"], **options)
        infos = [oh.make_tensor_value_info(name, 1, array.shape) for name, array in (("x", x), ("w", weight))]
        graph = oh.make_graph([node], "g", infos, [oh.make_tensor_value_info("y", 1, None)])
        model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)
        return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x, "w": weight})[0]
