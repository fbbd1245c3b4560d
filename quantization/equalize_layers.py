"""Cross-layer equalization: channels between two layers get equal ranges in both layers' weights.

A positive factor passes through ReLU, so one layer may give a channel smaller and the next read it larger.
Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant, is_onnx, only_consumer
from .layers import Layer, layers_of

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool")
"""What commutes with a positive factor for each channel."""

SWEEPS = 8
LARGEST = 1e3
"""Factors stay within 1/LARGEST and LARGEST."""


def equalize_layers(graph: ir.Graph) -> int:
    """Rewrite weights and biases in place; returns how many pairs of layers there were."""
    names = [(first.name, second.name) for first, second in _pairs(graph)]
    for _ in range(SWEEPS if len(names) > 1 else 1):
        layers = {layer.name: layer for layer in layers_of(graph)}
        for first, second in names:
            _equalize(graph, layers[first], layers[second])
            layers = {layer.name: layer for layer in layers_of(graph)}
    return len(names)


def _pairs(graph: ir.Graph) -> Iterator[tuple[Layer, Layer]]:
    by_node = {layer.node: layer for layer in layers_of(graph)}
    for layer in by_node.values():
        follower = only_consumer(layer.node.outputs[0])
        while follower is not None and is_onnx(follower, *HOMOGENEOUS):
            follower = only_consumer(follower.outputs[0])
        second = by_node.get(follower) if follower is not None else None
        if second is not None and _fits(layer, second):
            yield layer, second


def _fits(first: Layer, second: Layer) -> bool:
    """Whether both have the same channels along the same axis, and weights of their own."""
    images = [is_onnx(layer.node, "Conv") for layer in (first, second)]
    weights = [layer.node.inputs[1] for layer in (first, second)]
    alone = all(weight is not None and len(list(weight.uses())) == 1 for weight in weights)
    has_vector = first.bias is not None or len(first.node.inputs) < 3
    return images[0] == images[1] and alone and has_vector and first.weight.shape[first.axis] == _inputs(second)


def _inputs(layer: Layer) -> int:
    if is_onnx(layer.node, "Conv"):
        return layer.weight.shape[1] * layer.node.attributes.get_int("group", 1)
    return layer.weight.shape[1 - layer.axis]


def _equalize(graph: ir.Graph, first: Layer, second: Layer) -> None:
    given = np.abs(np.moveaxis(first.weight, first.axis, 0).reshape(first.weight.shape[first.axis], -1)).max(axis=1)
    read = _reading_ranges(second)
    usable = (given > 0) & (read > 0)
    factors = np.ones(given.shape)
    factors[usable] = np.sqrt(given[usable].astype(np.float64) / read[usable])
    factors = np.clip(factors, 1 / LARGEST, LARGEST)
    along = [-1 if i == first.axis else 1 for i in range(first.weight.ndim)]
    _replace(graph, first, 1, first.weight / factors.reshape(along))
    if first.bias is not None:
        _replace(graph, first, 2, first.bias / factors)
    _replace(graph, second, 1, _times_inputs(second, factors))


def _reading_ranges(layer: Layer) -> np.ndarray:
    """The largest weight that each input channel is multiplied with."""
    if not is_onnx(layer.node, "Conv"):
        return np.abs(layer.weight).max(axis=layer.axis)
    grouped = _by_groups(layer)
    return np.abs(grouped).max(axis=(1, *range(3, grouped.ndim))).reshape(-1)


def _times_inputs(layer: Layer, factors: np.ndarray) -> np.ndarray:
    if not is_onnx(layer.node, "Conv"):
        return layer.weight * (factors[None, :] if layer.axis == 0 else factors[:, None])
    grouped = _by_groups(layer)
    shape = (grouped.shape[0], 1, grouped.shape[2]) + (1,) * (grouped.ndim - 3)
    return (grouped * factors.reshape(shape)).reshape(layer.weight.shape)


def _by_groups(layer: Layer) -> np.ndarray:
    """[groups, outputs of a group, inputs of a group, ...]."""
    groups = layer.node.attributes.get_int("group", 1)
    shape = layer.weight.shape
    return layer.weight.reshape((groups, shape[0] // groups, *shape[1:]))


def _replace(graph: ir.Graph, layer: Layer, index: int, array: np.ndarray) -> None:
    value = add_constant(graph, f"{layer.name}.equalized.{index}", array.astype(np.float32))
    layer.node.replace_input_with(index, value)
