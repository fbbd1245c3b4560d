"""Bias correction: what rounding adds to a channel on average is taken from its bias.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, section 4.2, with the averages measured on calibration data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant, is_onnx
from .layers import Layer, layers_of


def correctable(layer: Layer) -> bool:
    """Whether a layer has a bias with one number for each output channel, or room for one."""
    inputs = layer.node.inputs
    free = len(inputs) < 3 or inputs[2] is None
    return is_onnx(layer.node, "Conv", "Gemm") and (free or layer.bias is not None)


def correct_biases(graph: ir.Graph, shifts: Mapping[str, Sequence[float]]) -> int:
    """Take each layer's shifts, by its name, from its bias; returns how many layers there were."""
    done = 0
    for layer in list(layers_of(graph)):
        if layer.name not in shifts or not correctable(layer):
            continue
        channels = layer.weight.shape[layer.axis]
        bias = layer.bias if layer.bias is not None else np.zeros(channels, np.float32)
        corrected = (bias - np.array(shifts[layer.name], np.float64)).astype(np.float32)
        if len(layer.node.inputs) < 3:
            layer.node.resize_inputs(3)
        layer.node.replace_input_with(2, add_constant(graph, f"{layer.name}.corrected", corrected))
        done += 1
    return done
