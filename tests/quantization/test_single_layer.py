"""Layers as models of their own: valid, and the same layer in both forms."""

import numpy as np
import onnx_ir as ir
import pytest
from quantized_models import graph_model, node, noise, residual_network, run, signal_to_noise

from onnxkiln.quantization.fold_scales import fold_scales
from onnxkiln.quantization.layers import layers_of
from onnxkiln.quantization.single_layer import float_model, integer_model, kind_of


def kinds(proto):
    model = ir.from_proto(proto)
    fold_scales(model)
    return [kind_of(layer) for layer in layers_of(model.graph)]


SHAPES = [(2, 3, 9, 9), (2, 8, 9, 9), (2, 8, 9, 9), (5, 8)]


@pytest.mark.parametrize("index", range(4))
def test_both_forms_compute_the_layer(index):
    kind, shape = kinds(residual_network())[index], SHAPES[index]
    integers = noise(*shape) * 20 + 117
    quantized = np.clip(np.rint(integers), 0, 255).astype(np.uint8)
    real = (quantized.astype(np.float32) - 117) * np.float32(0.02)
    exact = run(ir.to_proto(float_model(kind, shape)), {"x": real})[0]
    (found,) = run(ir.to_proto(integer_model(kind, shape, dynamic=False)), {"x": quantized})
    assert found.dtype == np.uint8
    inside = np.abs(exact) < 5
    assert np.abs(((found.astype(np.float32) - 117) * 0.05 - exact)[inside]).max() < 0.15
    (dynamic,) = run(ir.to_proto(integer_model(kind, shape, dynamic=True)), {"x": real})
    assert signal_to_noise(exact, dynamic) > 25


def test_layers_that_differ_only_in_values_are_one_kind():
    nodes = [node("MatMul", "x a", "m"), node("MatMul", "m b", "n"), node("MatMul", "n c", "y")]
    model = graph_model(nodes, {"x": [2, 4]}, ["y"], {"a": noise(4, 4), "b": noise(4, 4, seed=1), "c": noise(4, 5)})
    assert len(set(kinds(model))) == 2
