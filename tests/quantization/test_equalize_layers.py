"""Equalized layers compute the same, and channels have equal ranges on both sides."""

import numpy as np
import onnx_ir as ir
import pytest
from quantized_models import graph_model, node, noise, rewritten, run

from onnxkiln.quantization.equalize_layers import equalize_layers
from onnxkiln.quantization.layers import layers_of


def uneven(*shape, seed=0):
    """Output channels (axis 0) of sizes that differ a hundredfold."""
    sizes = np.geomspace(0.1, 10, shape[0]).reshape([-1] + [1] * (len(shape) - 1))
    return (noise(*shape, seed=seed) * sizes).astype(np.float32)


def convolutions():
    nodes = [
        node("Conv", "x w1 b1", "c1"),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", group=8),
        node("LeakyRelu", "c2", "r2"),
        node("MaxPool", "r2", "p", kernel_shape=[2, 2]),
        node("Conv", "p w3", "c3", group=2),
        node("Conv", "c3 w4", "y"),
    ]
    constants = {"w1": uneven(8, 3, 3, 3), "b1": noise(8), "w2": uneven(16, 1, 3, 3, seed=1)}
    constants |= {"w3": uneven(6, 8, 1, 1, seed=2), "w4": uneven(4, 6, 1, 1, seed=3)}
    return graph_model(nodes, {"x": [2, 3, 11, 9]}, ["y"], constants), {"x": noise(2, 3, 11, 9)}


def products():
    nodes = [node("Gemm", "x w1 b1", "g", transB=1), node("Relu", "g", "r"), node("MatMul", "r w2", "y")]
    constants = {"w1": uneven(7, 5), "b1": noise(7), "w2": noise(7, 3, seed=1)}
    return graph_model(nodes, {"x": [4, 5]}, ["y"], constants), {"x": noise(4, 5)}


def ranges(model):
    layers = list(layers_of(ir.from_proto(model).graph))
    given = np.abs(np.moveaxis(layers[0].weight, layers[0].axis, 0)).reshape(layers[0].weight.shape[layers[0].axis], -1)
    return given.max(axis=1), layers[1]


@pytest.mark.parametrize(("made", "pairs"), [(convolutions, 3), (products, 1)])
def test_numbers_stay_and_pairs_are_found(made, pairs):
    model, feeds = made()
    found = []
    equal = rewritten(model, lambda changed: found.append(equalize_layers(changed.graph)))
    assert found == [pairs]
    (expected,), (result,) = run(model, feeds), run(equal, feeds)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_ranges_on_both_sides_are_equal():
    model, _ = products()
    given, second = ranges(rewritten(model, lambda changed: equalize_layers(changed.graph)))
    np.testing.assert_allclose(given, np.abs(second.weight).max(axis=1), rtol=1e-4)


@pytest.mark.parametrize("between", ["Sigmoid", "Clip", "branch", "shared"])
def test_what_no_factor_passes_through_is_left_alone(between):
    middle = {
        "Sigmoid": [node("Sigmoid", "a", "r")],
        "Clip": [node("Clip", "a zero six", "r")],
        "branch": [node("Relu", "a", "r"), node("Neg", "a", "other")],
        "shared": [node("Relu", "a", "r")],
    }[between]
    second = "w1" if between == "shared" else "w2"
    nodes = [node("Conv", "x w1", "a"), *middle, node("Conv", f"r {second}", "y")]
    constants = {"w1": noise(3, 3, 1, 1), "w2": noise(3, 3, 1, 1, seed=1), "zero": np.float32(0), "six": np.float32(6)}
    outputs = ["y", "other"] if between == "branch" else ["y"]
    found = []
    rewritten(
        graph_model(nodes, {"x": [1, 3, 4, 4]}, outputs, constants),
        lambda changed: found.append(equalize_layers(changed.graph)),
    )
    assert found == [0]
