"""What rounding adds on average goes out of the bias."""

import numpy as np
import pytest
from quantized_models import graph_model, node, noise, rewritten, run

from onnxkiln.quantization.correct_biases import correct_biases


@pytest.mark.parametrize("bias", [True, False])
def test_shifts_are_taken_from_each_channel(bias):
    inputs = "x w b" if bias else "x w"
    nodes = [node("Conv", inputs, "c"), node("Flatten", "c", "f"), node("Gemm", "f v", "y"), node("MatMul", "y u", "z")]
    constants = {"w": noise(2, 3, 3, 3), "b": noise(2), "v": noise(2, 5), "u": noise(5, 5)}
    model = graph_model(nodes, {"x": [4, 3, 3, 3]}, ["c", "y", "z"], constants)
    shifts = {"c_node": [0.5, -1.0], "y_node": [0, 0, 0, 0, 2.0], "z_node": [9] * 5, "nobody": [1]}
    found = []
    made = rewritten(model, lambda changed: found.append(correct_biases(changed.graph, shifts)))
    assert found == [2]  # a MatMul has no bias
    (c, y, _), (c2, y2, _) = run(model, {"x": noise(4, 3, 3, 3)}), run(made, {"x": noise(4, 3, 3, 3)})
    np.testing.assert_allclose(c2, c - np.array([0.5, -1]).reshape(1, 2, 1, 1), atol=1e-5)
    moved = y + np.array([-0.5, 1]) @ constants["v"] - np.array([0, 0, 0, 0, 2])
    np.testing.assert_allclose(y2, moved, atol=1e-4)
