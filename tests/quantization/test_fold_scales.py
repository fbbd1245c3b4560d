"""Scales and offsets behind a layer go into it, and numbers stay what they were."""

import numpy as np
import pytest
from quantized_models import graph_model, node, noise, operators, rewritten, run

from onnxkiln.quantization.fold_scales import fold_scales

NORM = {
    "gamma": np.array([0.5, -2, 1, 3], np.float32),
    "beta": np.array([1, 0, -1, 2], np.float32),
    "mean": np.array([0.3, -1, 2, 0], np.float32),
    "var": np.array([0.5, 1, 2, 0.01], np.float32),
}
BY_CHANNEL = np.array([2, -1, 0.5, 4], np.float32).reshape(1, 4, 1, 1)


def check(model, feeds, left):
    folded = rewritten(model, fold_scales)
    assert operators(folded) == left
    for expected, found in zip(run(model, feeds), run(folded, feeds), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert [output.name for output in folded.graph.output] == [output.name for output in model.graph.output]


def test_batch_normalization_and_arithmetic_go_into_a_convolution():
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c gamma beta mean var", "n", epsilon=1e-3),
        node("Mul", "n m", "a"),
        node("Add", "m a", "b"),
        node("Sub", "b half", "d"),
        node("Div", "d half", "y"),
    ]
    constants = {"w": noise(4, 3, 3, 2), "m": BY_CHANNEL, "half": np.float32(0.5), **NORM}
    check(graph_model(nodes, {"x": [1, 3, 7, 5]}, ["y"], constants), {"x": noise(1, 3, 7, 5, seed=1)}, ["Conv"])


def test_grouped_transposed_convolutions_and_gemm():
    nodes = [node("ConvTranspose", "x w b", "c", group=2), node("BatchNormalization", "c gamma beta mean var", "y")]
    constants = {"w": noise(6, 2, 3, 3), "b": noise(4), **NORM}
    check(graph_model(nodes, {"x": [2, 6, 5, 5]}, ["y"], constants), {"x": noise(2, 6, 5, 5)}, ["ConvTranspose"])
    for transposed in (0, 1):
        gemm = node("Gemm", "x w b", "g", transB=transposed, beta=0.5)
        nodes = [gemm, node("Mul", "g m", "a"), node("Add", "a m", "y")]
        shape = (4, 7) if transposed else (7, 4)
        for bias in (noise(4), noise(1, 4), np.float32(3), noise(3, 4), noise(3, 1)):
            constants = {"w": noise(*shape), "b": bias, "m": BY_CHANNEL.reshape(1, 4)}
            check(graph_model(nodes, {"x": [3, 7]}, ["y"], constants), {"x": noise(3, 7)}, ["Gemm"])


def test_a_weight_that_two_layers_share_is_folded_for_each_alone():
    nodes = [node("Conv", "x w", "c"), node("Mul", "c m", "d"), node("Conv", "x w", "e"), node("Add", "d e", "y")]
    constants = {"w": noise(4, 3, 1, 1), "m": BY_CHANNEL}
    check(graph_model(nodes, {"x": [1, 3, 4, 4]}, ["y"], constants), {"x": noise(1, 3, 4, 4)}, ["Conv", "Conv", "Add"])


@pytest.mark.parametrize(
    ("follower", "outputs", "left"),
    [
        (node("Mul", "c m", "y"), ["y", "c"], "Mul"),  # the layer's own result is wanted too
        (node("Mul", "c row", "y"), ["y"], "Mul"),  # along the width, not the channels
        (node("Sub", "m c", "y"), ["y"], "Sub"),
        (node("Mul", "c c", "y"), ["y"], "Mul"),
        (node("Mul", "c x1", "y"), ["y"], "Mul"),  # not a constant
        (node("Add", "c wide", "y"), ["y"], "Add"),  # makes the result larger
    ],
)
def test_what_is_left_alone(follower, outputs, left):
    constants = {"w": noise(4, 3, 1, 1), "m": BY_CHANNEL, "row": noise(4), "wide": noise(2, 4, 1, 1)}
    inputs = {"x": [1, 3, 4, 4], "x1": [1, 4, 1, 1]}
    model = graph_model([node("Conv", "x w", "c"), follower], inputs, outputs, constants)
    check(model, {"x": noise(1, 3, 4, 4), "x1": noise(1, 4, 1, 1)}, ["Conv", left])
