"""The layers that integers can compute: Conv, Gemm and MatMul with weights that the model holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .graph_tensors import constant_of, is_onnx, node_name


@dataclass(frozen=True)
class Layer:
    """One node with a constant float32 weight. ``axis`` is the weight's axis of output channels.

    ``bias`` is the node's own, None where it has none (or one that is no vector of the output channels).
    """

    node: ir.Node
    weight: np.ndarray
    axis: int
    bias: np.ndarray | None

    @property
    def name(self) -> str:
        return node_name(self.node)

    @property
    def data(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value


def layers_of(graph: ir.Graph) -> Iterator[Layer]:
    """Every such layer of the main graph, in order. Branches and bodies of loops stay in floating point."""
    for node in graph:
        layer = _layer(node)
        if layer is not None:
            yield layer


def _layer(node: ir.Node) -> Layer | None:
    if not is_onnx(node, "Conv", "Gemm", "MatMul") or node.inputs[0] is None:
        return None
    weight = constant_of(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or weight.size == 0 or not np.isfinite(weight).all():
        return None
    if constant_of(node.inputs[0]) is not None:
        return None
    if node.op_type == "Conv":
        return _with_bias(node, weight, 0)
    if node.op_type == "MatMul":
        return Layer(node, weight, 1, None) if weight.ndim == 2 else None
    plain = node.attributes.get_float("alpha", 1.0) == 1 and not node.attributes.get_int("transA", 0)
    return _with_bias(node, weight, 0 if node.attributes.get_int("transB", 0) else 1) if plain else None


def _with_bias(node: ir.Node, weight: np.ndarray, axis: int) -> Layer | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return Layer(node, weight, axis, None)
    bias = constant_of(value)
    if bias is None or bias.dtype != np.float32 or not np.isfinite(bias).all():
        return None
    fits = bias.shape == (weight.shape[axis],) and node.attributes.get_float("beta", 1.0) == 1
    return Layer(node, weight, axis, bias if fits else None)
