"""Input shapes (what ``--shape`` means) and normalisation on the ONNX level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from onnxkiln.contract import DimRange
from onnxkiln.errors import ModelError, UsageError
from onnxkiln.frontend.normalize import normalize, resolve_inputs

PATH = Path("model.onnx")


def graph_of(**inputs: list | None) -> ir.Graph:
    infos = [oh.make_tensor_value_info(name, 1, dims) for name, dims in inputs.items()]
    out = oh.make_tensor_value_info("out", 7, [None])
    return ir.from_proto(oh.make_graph([oh.make_node("Shape", [next(iter(inputs))], ["out"])], "g", infos, [out]))


def resolved(graph: ir.Graph, **shapes: list) -> tuple[dict, dict]:
    return resolve_inputs(graph, shapes, PATH)


def test_what_the_model_says_is_kept():
    shapes, dims = resolved(graph_of(x=["batch", 3, None], y=["batch", "?"]))
    assert shapes == {"x": ("batch", 3, "x_dim_2"), "y": ("batch", "y_dim_1")}
    assert dims == {name: DimRange() for name in ("batch", "x_dim_2", "y_dim_1")}


def test_unnamed_dims_never_share_a_name():
    shapes, _ = resolved(graph_of(x=[None, "", "unk"], y=["x_dim_0", None]))
    assert shapes == {"x": ("x_dim_0_", "x_dim_1", "x_dim_2"), "y": ("x_dim_0", "y_dim_1")}


def test_a_size_holds_for_every_dim_of_that_name():
    shapes, dims = resolved(graph_of(x=["n", "m"], y=["n", "k"]), x=[4, None])
    assert shapes == {"x": (4, "m"), "y": (4, "k")} and set(dims) == {"m", "k"}


def test_ranges_and_names():
    shapes, dims = resolved(graph_of(x=["n", "m"], y=["n", None]), x=[DimRange(1, 64), "width"], y=[None, "width"])
    assert shapes == {"x": ("n", "width"), "y": ("n", "width")}
    assert dims == {"n": DimRange(1, 64), "width": DimRange()}


def test_giving_one_dim_the_name_of_another_makes_them_one():
    shapes, dims = resolved(graph_of(x=["a", "b"], y=["b"]), x=["b", None], y=[DimRange(1, 8)])
    assert shapes == {"x": ("b", "b"), "y": ("b",)} and dims == {"b": DimRange(1, 8)}
    shapes, _ = resolved(graph_of(x=["a"], y=["b"]), x=["b"], y=["a"])
    assert shapes["x"] == shapes["y"] == ("a",)


def test_a_range_survives_a_new_name():
    shapes, dims = resolved(graph_of(x=["n"], y=["n"]), x=["rows"], y=[DimRange(2, 3)])
    assert shapes == {"x": ("rows",), "y": ("rows",)} and dims == {"rows": DimRange(2, 3)}


def test_fixed_dims_may_be_said_again():
    shapes, _ = resolved(graph_of(x=[4, 3]), x=[4, DimRange(1, 5)])
    assert shapes == {"x": (4, 3)}
    shapes, _ = resolved(graph_of(x=[4, 3]), x=["rows", None])
    assert shapes == {"x": (4, 3)}


def test_an_input_without_a_rank_takes_the_given_one():
    graph = graph_of(x=None)
    with pytest.raises(ModelError, match="input 'x' has no rank"):
        resolved(graph)
    assert resolved(graph, x=[2, None, "n"])[0] == {"x": (2, "x_dim_1", "n")}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": [1]}, "no input named 'z'"),
        ({"x": [1]}, "has rank 3 .* the shape given has 1 dims"),
        ({"x": [None, 4, None]}, "dim 1 of input 'x' is 3 in the model, the shape given says 4"),
        ({"x": [None, DimRange(4, 8), None]}, "is 3 in the model, the shape given says 4..8"),
        ({"x": [1, None, None], "y": [2, None]}, "'n' is said to be 1 and 2"),
        ({"x": ["a", None, None], "y": ["b", None]}, "'n' is said to be a and b"),
        ({"x": [DimRange(1, 2), None, None], "y": [DimRange(1, 3), None]}, "'n' is said to be 1..2 and 1..3"),
        ({"x": [8, None, None], "y": [DimRange(1, 3), None]}, "the size 8 and the range 1..3"),
        ({"x": [1, None, 2], "y": ["m", None]}, "dim 'm' is given two sizes: 1 and 2"),
        ({"x": [-1, None, None]}, "-1 is no size"),
        ({"x": [DimRange(5, 2), None, None]}, "is no size"),
        ({"x": [1.5, None, None]}, "1.5 is no size"),
        ({"x": [True, None, None]}, "True is no size"),
    ],
)
def test_shapes_that_contradict(shapes, words):
    with pytest.raises(UsageError, match=words):
        resolve_inputs(graph_of(x=["n", 3, "m"], y=["n", "k"]), shapes, PATH)


def test_initializers_are_no_inputs():
    graph = graph_of(x=["n"], w=[2])
    graph.initializers["w"] = graph.inputs[1]
    assert set(resolved(graph)[0]) == {"x"}


def answers(model: onnx.ModelProto, x: np.ndarray) -> list:
    return ReferenceEvaluator(model).run(None, {"x": x})


def test_functions_are_inlined_constants_folded_and_dead_nodes_dropped():
    imports = [oh.make_opsetid("", 20), oh.make_opsetid("local", 1)]
    body = [oh.make_node("Mul", ["a", "a"], ["square"]), oh.make_node("Add", ["square", "a"], ["b"])]
    function = oh.make_function("local", "Poly", ["a"], ["b"], body, imports)
    nodes = [
        oh.make_node("Constant", [], ["two"], value_float=2.0),
        oh.make_node("Add", ["two", "two"], ["four"]),
        oh.make_node("Poly", ["x"], ["p"], domain="local"),
        oh.make_node("Exp", ["p"], ["unused"]),
        oh.make_node("Mul", ["p", "four"], ["y"]),
    ]
    infos = [oh.make_tensor_value_info(name, 1, ["n"]) for name in "xy"]
    graph = oh.make_graph(nodes, "g", infos[:1], infos[1:])
    model = oh.make_model(graph, functions=[function], opset_imports=imports, ir_version=10)
    normal = normalize(ir.from_proto(model), PATH)
    kinds = [node.op_type for node in normal.graph]
    assert sorted(kinds) == ["Add", "Mul", "Mul"]
    x = np.array([1.0, -2.0], np.float32)
    np.testing.assert_array_equal(answers(ir.to_proto(normal), x), answers(model, x))


def test_inputs_that_nothing_reads_stay():
    infos = [oh.make_tensor_value_info(name, 1, ["n"]) for name in ("x", "ignored", "y")]
    graph = oh.make_graph([oh.make_node("Neg", ["x"], ["y"])], "g", infos[:2], infos[2:])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)
    normal = normalize(ir.from_proto(model), PATH)
    assert [value.name for value in normal.graph.inputs] == ["x", "ignored"]


def test_large_constants_are_not_folded():
    """A file of a few bytes must not become gigabytes."""
    nodes = [
        oh.make_node("Constant", [], ["shape"], value_ints=[1 << 20, 1 << 10]),
        oh.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        oh.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    infos = [oh.make_tensor_value_info(name, 1, ["n"]) for name in "xy"]
    model = oh.make_model(oh.make_graph(nodes, "g", infos[:1], infos[1:]), opset_imports=[oh.make_opsetid("", 20)])
    normal = normalize(ir.from_proto(model), PATH)
    held = sum(v.const_value.nbytes for v in normal.graph.initializers.values() if v.const_value is not None)
    assert held < 1 << 20
