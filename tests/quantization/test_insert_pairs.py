"""The rewritten graph is valid ONNX, computes in ONNX Runtime, and close to the float model."""

import numpy as np
import onnx.numpy_helper as nh
import pytest
from quantized_models import graph_model, node, noise, operators, residual_network, rewritten, run, signal_to_noise

from onnxkiln.quantization.fold_scales import fold_scales
from onnxkiln.quantization.insert_pairs import insert_pairs
from onnxkiln.quantization.parameters import Affine8, Range, affine_of
from onnxkiln.quantization.plan import Selection, make_plan


def quantized(model, per_channel=True):
    """With one range for all values."""

    def rewrite(graph_model):
        fold_scales(graph_model)
        plan = make_plan(graph_model.graph, Selection())
        scales = {value.name: affine_of(Range(-40, 30)) for value in plan.measured}
        insert_pairs(graph_model, plan, scales, per_channel)

    return rewritten(model, rewrite)


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_a_network_is_close_to_its_float_form(opset):
    model, feeds = residual_network(opset), {"x": noise(2, 3, 13, 13)}
    made = quantized(model)
    assert signal_to_noise(run(model, feeds)[0], run(made, feeds)[0]) > 22
    pairs = [item for item in made.graph.node if item.op_type == "QuantizeLinear"]
    assert len(pairs) == 8
    assert {item.domain for item in pairs} == {"com.microsoft" if opset < 13 else ""}
    assert operators(made).count("DequantizeLinear") == 8 + 4 + 3  # values, weights, biases
    integers = {t.name: nh.to_array(t).dtype for t in made.graph.initializer if len(t.dims) > 1}
    assert set(integers.values()) == {np.dtype(np.int8)}


def test_rounded_values_are_what_the_formula_says():
    model = graph_model([node("MatMul", "x w", "y")], {"x": [2, 3]}, ["y"], {"w": noise(3, 5)})
    x = noise(2, 3, seed=3)

    def rewrite(changed):
        insert_pairs(changed, make_plan(changed.graph, Selection()), {"x": Affine8(0.0625, 30)})

    rounded = (np.clip(np.rint(x / 0.0625) + 30, 0, 255) - 30) * 0.0625
    weight = noise(3, 5)
    scale = np.abs(weight).max(axis=0) / np.float32(127)
    found = run(rewritten(model, rewrite), {"x": x})[0]
    np.testing.assert_allclose(found, rounded @ (np.rint(weight / scale) * scale), rtol=1e-5, atol=1e-6)


def test_a_weight_that_two_layers_share_is_stored_once():
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "r"), node("MatMul", "r w", "y")]
    model = graph_model(nodes, {"x": [2, 4]}, ["y"], {"w": noise(4, 4)})
    made = quantized(model)
    assert len([t for t in made.graph.initializer if list(t.dims) == [4, 4]]) == 1


def test_an_output_of_the_model_is_given_unrounded():
    nodes = [node("Conv", "x w", "c"), node("Conv", "c w", "y")]
    model = graph_model(nodes, {"x": [1, 2, 4, 4]}, ["c", "y"], {"w": noise(2, 2, 1, 1)})
    made = quantized(model)
    assert [output.name for output in made.graph.output] == ["c", "y"]
    conv = next(item for item in made.graph.node if "c" in item.output)
    assert conv.op_type == "Conv"


def test_one_scale_for_a_whole_weight():
    made = quantized(residual_network(), per_channel=False)
    arrays = {t.name: nh.to_array(t) for t in made.graph.initializer}
    scales = [a for name, a in arrays.items() if name.startswith("w2.scale")]
    assert len(scales) == 1
    assert len(np.unique(scales[0])) == 1
