"""Scales and offsets behind a convolution or matrix product go into its weights and bias.

BatchNormalization, and Mul, Div, Add, Sub by a constant for each output channel. Quantization wants this first: ranges
are then those of what the network computes, and an integer layer has its bias inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant, constant_of, is_onnx, node_name, only_consumer


@dataclass(frozen=True)
class Affine:
    """``value * scale + shift``; each has one number for all output channels, or one for each."""

    scale: np.ndarray
    shift: np.ndarray


def fold_scales(model: ir.Model) -> int:
    """Fold in place until nothing is left to fold; returns how many nodes went."""
    folded = 0
    for node in list(model.graph):
        if is_onnx(node, "Conv", "ConvTranspose", "Gemm") and _weight(node) is not None:
            while _fold_next(model.graph, node):
                folded += 1
    return folded


def _fold_next(graph: ir.Graph, layer: ir.Node) -> bool:
    output = layer.outputs[0]
    follower = only_consumer(output)
    if follower is None or follower.graph is not graph or not _single(follower):
        return False
    weight = _weight(layer)
    assert weight is not None
    affine = _affine(follower, output, _channels(layer, weight), 1 if is_onnx(layer, "Gemm") else weight.ndim - 1)
    if affine is None:
        return False
    _apply(graph, layer, weight, affine)
    result = follower.outputs[0]
    # The layer takes the name that outputs and other nodes know.
    name, kind, shape = result.name, result.type, result.shape
    result.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.remove(follower, safe=True)
    output.name, output.type, output.shape = name, kind, shape
    return True


def _single(node: ir.Node) -> bool:
    """Whether a node has no second result that anybody reads (BatchNormalization in training has)."""
    return not any(list(value.uses()) or value.is_graph_output() for value in node.outputs[1:])


def _weight(layer: ir.Node) -> np.ndarray | None:
    weight = constant_of(layer.inputs[1])
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    known = bias is None or constant_of(bias) is not None
    return weight if weight is not None and weight.dtype == np.float32 and known else None


def _group(layer: ir.Node) -> int:
    return layer.attributes.get_int("group", 1)


def _channels(layer: ir.Node, weight: np.ndarray) -> int:
    if is_onnx(layer, "ConvTranspose"):
        return weight.shape[1] * _group(layer)
    if is_onnx(layer, "Gemm"):
        return weight.shape[0 if layer.attributes.get_int("transB", 0) else 1]
    return weight.shape[0]


def _affine(node: ir.Node, data: ir.Value, channels: int, trailing: int) -> Affine | None:
    """What ``node`` does to ``data``, whose channels have ``trailing - 1`` dims behind them."""
    if is_onnx(node, "BatchNormalization") and node.inputs[0] is data:
        return _of_batch_normalization(node, channels)
    if not is_onnx(node, *_ARITHMETIC):
        return None
    left, right = node.inputs[:2]
    other = right if left is data else left
    if node.op_type in ("Div", "Sub") and left is not data:
        return None
    array = _by_channel(constant_of(other), channels, trailing)
    return None if array is None else _ARITHMETIC[node.op_type](array)


def _of_batch_normalization(node: ir.Node, channels: int) -> Affine | None:
    arrays = [constant_of(value) for value in node.inputs[1:5]]
    if node.attributes.get_int("training_mode", 0) or any(a is None or a.shape != (channels,) for a in arrays):
        return None
    gamma, beta, mean, variance = (a.astype(np.float64) for a in arrays if a is not None)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return Affine(scale, beta - mean * scale)


_NONE, _ONE = np.zeros(1), np.ones(1)

_ARITHMETIC: dict[str, Callable[[np.ndarray], Affine]] = {
    "Mul": lambda x: Affine(x, _NONE),
    "Div": lambda x: Affine(1 / x, _NONE),
    "Add": lambda x: Affine(_ONE, x),
    "Sub": lambda x: Affine(_ONE, -x),
}


def _by_channel(array: np.ndarray | None, channels: int, trailing: int) -> np.ndarray | None:
    """A constant as one number or one for each channel; None where it broadcasts otherwise or isn't finite."""
    if array is None or array.dtype != np.float32 or not np.isfinite(array).all() or array.ndim > trailing + 1:
        return None
    if array.size == 1:
        return array.reshape(1).astype(np.float64)
    aligned = array.reshape((1,) * (trailing + 1 - array.ndim) + array.shape)
    return array.reshape(-1).astype(np.float64) if aligned.shape == (1, channels) + (1,) * (trailing - 1) else None


def _apply(graph: ir.Graph, layer: ir.Node, weight: np.ndarray, affine: Affine) -> None:
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant_of(bias_value)
    channels = _channels(layer, weight)
    gemm = is_onnx(layer, "Gemm")
    beta = layer.attributes.get_float("beta", 1.0) if gemm else 1.0
    old = np.zeros(channels) if bias is None else beta * bias.astype(np.float64)
    if gemm and old.ndim > 1 and old.shape[0] != 1:
        old_shape = old.shape
        new_bias = np.broadcast_to(old, (old_shape[0], channels)) * affine.scale + affine.shift
    else:
        new_bias = np.broadcast_to(old.reshape(-1), (channels,)) * affine.scale + affine.shift
    new_weight = _scaled(layer, weight.astype(np.float64), np.broadcast_to(affine.scale, (channels,)))
    name = node_name(layer)
    values = [add_constant(graph, f"{name}.weight", new_weight.astype(np.float32))]
    values.append(add_constant(graph, f"{name}.bias", new_bias.astype(np.float32)))
    if len(layer.inputs) < 3:
        layer.resize_inputs(3)
    if gemm:
        layer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    for index, value in enumerate(values, start=1):
        layer.replace_input_with(index, value)


def _scaled(layer: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weight with each output channel multiplied."""
    if is_onnx(layer, "Gemm"):
        return weight * (scale[:, None] if layer.attributes.get_int("transB", 0) else scale[None, :])
    if is_onnx(layer, "ConvTranspose"):
        # [inputs, outputs of a group, ...]: group g holds the inputs' g-th share.
        groups = _group(layer)
        shares = weight.reshape((groups, weight.shape[0] // groups) + weight.shape[1:])
        by_group = scale.reshape((groups, 1, weight.shape[1]) + (1,) * (weight.ndim - 2))
        return (shares * by_group).reshape(weight.shape)
    return weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))
