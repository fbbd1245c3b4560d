"""What becomes integers: layers, and what lies between them."""

import onnx_ir as ir
from quantized_models import graph_model, node, noise, residual_network

from onnxkiln.quantization.fold_scales import fold_scales
from onnxkiln.quantization.plan import Selection, make_plan, unknown_patterns

NOTHING = Selection()


def plan_of(proto, selection=NOTHING, in_float=()):
    model = ir.from_proto(proto)
    fold_scales(model)
    return make_plan(model.graph, selection, in_float)


def names(values):
    return [value.name for value in values]


def test_a_residual_network_stays_in_integers_between_its_layers():
    plan = plan_of(residual_network())
    assert [layer.name for layer in plan.layers] == ["c1_node", "c2_node", "c3_node", "y_node"]
    assert [item.op_type for item in plan.carriers] == ["Add", "MaxPool", "GlobalAveragePool", "Flatten"]
    assert names(plan.values) == ["x", "r1", "c2", "r2", "p2", "c3", "g3", "f3"]
    assert {a.name: b.name for a, b in plan.same_scale.items()} == {"p2": "r2", "f3": "g3"}


def test_excluded_layers_and_what_only_they_needed_stay_in_floating_point():
    plan = plan_of(residual_network(), Selection(nodes=("c3*",)))
    assert [layer.name for layer in plan.layers] == ["c1_node", "c2_node", "y_node"]
    assert [item.op_type for item in plan.carriers] == []
    assert names(plan.values) == ["x", "r1", "f3"]
    assert plan_of(residual_network(), Selection(ops=("Conv",))).layers[0].name == "y_node"
    assert [layer.name for layer in plan_of(residual_network(), in_float=["c1_node", "y_node"]).layers] == [
        "c2_node",
        "c3_node",
    ]


def test_names_that_match_nothing_are_found():
    graph = ir.from_proto(residual_network()).graph
    assert unknown_patterns(graph, Selection(("c?_node", "nothing*"), ("Conv", "Einsum"))) == ["nothing*", "Einsum"]


def test_a_residual_sum_around_a_normalization_stays_in_floating_point():
    nodes = [
        node("LayerNormalization", "x g", "h"),
        node("MatMul", "h w1", "m1"),
        node("Add", "m1 b", "a1"),
        node("Gelu", "a1", "u"),
        node("MatMul", "u w2", "m2"),
        node("Add", "m2 x", "s"),
        node("LayerNormalization", "s g", "t"),
        node("MatMul", "t w1", "y"),
    ]
    constants = {"g": noise(4), "w1": noise(4, 8), "b": noise(8), "w2": noise(8, 4)}
    plan = plan_of(graph_model(nodes, {"x": [2, 4]}, ["y"], constants, opset=20))
    assert len(plan.layers) == 3
    assert not plan.carriers
    assert names(plan.values) == ["h", "u", "t"]
    assert all([reader.op_type for reader in readers] == ["MatMul"] for readers in plan.readers.values())


def test_gates_read_the_rounded_value_of_a_convolution():
    nodes = [
        node("Conv", "x w", "c"),
        node("Sigmoid", "c", "s"),
        node("Mul", "c s", "v"),
        node("GlobalAveragePool", "v", "p"),
        node("Conv", "p w", "e"),
        node("Sigmoid", "e", "gate"),
        node("Mul", "v gate", "o"),
        node("Conv", "o w", "y"),
    ]
    plan = plan_of(graph_model(nodes, {"x": [1, 4, 6, 6]}, ["y"], {"w": noise(4, 4, 1, 1)}))
    assert [item.op_type for item in plan.carriers] == ["GlobalAveragePool"]
    assert names(plan.values) == ["x", "v", "p", "o"]
    readers = {value.name: sorted(item.op_type for item in found) for value, found in plan.readers.items()}
    assert readers == {"x": ["Conv"], "v": ["GlobalAveragePool", "Mul"], "p": ["Conv"], "o": ["Conv"]}


def test_what_is_no_layer():
    """Weights that come at run time, products of two activations, branches."""
    nodes = [
        node("MatMul", "x x1", "m"),
        node("MatMul", "w m", "n"),
        node("Conv", "i k", "c"),
        node("Gemm", "m w", "y", alpha=2.0),
    ]
    inputs = {"x": [4, 4], "x1": [4, 4], "i": [1, 1, 4, 4], "k": [1, 1, 1, 1]}
    assert not plan_of(graph_model(nodes, inputs, ["n", "c", "y"], {"w": noise(4, 4)})).layers
