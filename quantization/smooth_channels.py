"""SmoothQuant: channels of a matrix product's data that are far larger than others hand their size to the weights.

``x @ w == (x / s) @ (s * w)`` with one s for each input channel; the division goes into the normalization before, or is
one multiplication in front of the rounding. Xiao et al., https://arxiv.org/abs/2211.10438.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant, constant_of, insert_after, is_onnx
from .layers import Layer
from .plan import Plan

STRENGTH = 0.5
"""How much of the difficulty moves from data to weights: the paper's alpha."""

SMALLEST = 1e-5


def smoothable(plan: Plan) -> dict[ir.Value, list[Layer]]:
    """Data of matrix products, with the layers that read it; their channels are along the last axis."""
    found: dict[ir.Value, list[Layer]] = {}
    for layer in plan.layers:
        if is_onnx(layer.node, "MatMul", "Gemm") and layer.data not in plan.same_scale:
            found.setdefault(layer.data, []).append(layer)
    return found


def factors_of(largest: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """``largest`` is each channel's magnitude in the data; the result divides the data and multiplies the weights."""
    weights = np.max([np.abs(layer.weight).max(axis=layer.axis) for layer in layers], axis=0)
    data = np.maximum(largest.astype(np.float64), SMALLEST)
    factors = data**STRENGTH / np.maximum(weights, SMALLEST) ** (1 - STRENGTH)
    return np.maximum(factors, SMALLEST).astype(np.float32)


def smooth_channels(graph: ir.Graph, plan: Plan, factors: Mapping[str, Sequence[float]]) -> int:
    """Rewrite in place the values that ``factors`` names; returns how many. The plan is out of date then."""
    done = 0
    for value, layers in smoothable(plan).items():
        name = value.name or ""
        if name in factors:
            _smooth(graph, value, layers, np.array(factors[name], np.float32))
            done += 1
    return done


def _smooth(graph: ir.Graph, value: ir.Value, layers: Sequence[Layer], factors: np.ndarray) -> None:
    for layer in layers:
        scaled = layer.weight * (factors[None, :] if layer.axis == 0 else factors[:, None])
        layer.node.replace_input_with(1, add_constant(graph, f"{layer.name}.smoothed", scaled.astype(np.float32)))
    readers = {layer.node for layer in layers}
    if _into_normalization(graph, value, readers, factors):
        return
    output = ir.Value(name=f"{value.name}.smoothed", type=value.type, shape=value.shape)
    inverse = add_constant(graph, f"{value.name}.smoothing", (1 / factors).astype(np.float32))
    multiply = ir.node("Mul", [value, inverse], outputs=[output])
    insert_after(graph, value, [multiply])
    for layer in layers:
        layer.node.replace_input_with(0, output)


def _into_normalization(graph: ir.Graph, value: ir.Value, readers: set[ir.Node], factors: np.ndarray) -> bool:
    node = value.producer()
    others = value.is_graph_output() or any(use.node not in readers for use in value.uses())
    if node is None or others or not is_onnx(node, "LayerNormalization"):
        return False
    parameters = [constant_of(parameter) for parameter in node.inputs[1:]]
    if any(array is None or array.shape != factors.shape for array in parameters):
        return False
    for index, array in enumerate(parameters, start=1):
        assert array is not None
        smoothed = add_constant(graph, f"{value.name}.parameter.{index}", (array / factors).astype(np.float32))
        node.replace_input_with(index, smoothed)
    return True
