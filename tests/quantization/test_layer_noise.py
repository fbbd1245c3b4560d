"""Each layer's noise, against the same arithmetic in NumPy."""

import numpy as np
import pytest
from quantized_models import graph_model, node, noise, residual_network, rewritten, run

from onnxkiln.quantization.fold_scales import fold_scales
from onnxkiln.quantization.layer_noise import Noise, add_copies, add_up
from onnxkiln.quantization.parameters import Range, affine_of
from onnxkiln.quantization.plan import Selection, make_plan


def measured(model, runs, dynamic=False):
    noises = {}

    def rewrite(graph_model):
        fold_scales(graph_model)
        plan = make_plan(graph_model.graph, Selection())
        scales = None if dynamic else {value.name: affine_of(Range(-4, 4)) for value in plan.measured}
        noises.update(add_copies(graph_model, plan, scales))

    made = rewritten(model, rewrite)
    for feeds in runs:
        add_up(noises, run(made, feeds))
    return noises


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_layer_is_compared_with_itself_on_rounded_data(dynamic):
    w = noise(6, 5, seed=1)
    model = graph_model([node("MatMul", "x w", "a"), node("Tanh", "a", "y")], {"x": ["n", 6]}, ["y"], {"w": w})
    runs = [np.clip(noise(n, 6, seed=n), -3.9, 3.9) for n in (2, 5)]
    found = measured(model, [{"x": x} for x in runs], dynamic)["a_node"]
    signal = error = 0.0
    for x in runs:
        affine = affine_of(Range(-4, 4))
        rounded = (np.clip(np.rint(x / affine.scale) + affine.zero, 0, 255) - affine.zero) * affine.scale
        if dynamic:
            low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
            steps = (high - low) / 255
            zero = np.rint(-low / steps)
            rounded = (np.clip(np.rint(x / steps) + zero, 0, 255) - zero) * steps
        scale = np.abs(w).max(axis=0) / 127
        signal += np.square(x @ w).sum()
        error += np.square(rounded @ (np.rint(w / scale) * scale) - x @ w).sum()
    assert found.signal == pytest.approx(signal, rel=1e-4)
    assert found.error == pytest.approx(error, rel=0.05)
    assert found.decibels == pytest.approx(10 * np.log10(signal / error), abs=0.3)
    assert found.shape == (5, 6)


def test_every_layer_of_a_network_has_its_noise_alone():
    found = measured(residual_network(), [{"x": noise(2, 3, 13, 13)}])
    assert list(found) == ["c1_node", "c2_node", "c3_node", "y_node"]
    assert found["c1_node"].shape == (2, 3, 13, 13)
    assert all(20 < layer.decibels < 60 for name, layer in found.items() if name == "c1_node")
    # Far-out ranges cost the layer that has them, and not those after it.
    network = residual_network()
    assert measured(network, [{"x": noise(2, 3, 13, 13) * 50}])["c1_node"].decibels < 5


def test_silence():
    assert Noise(1.0, 0.0).decibels == np.inf
    assert Noise(0.0, 1.0).decibels == -np.inf
