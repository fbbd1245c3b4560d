"""The frontend's door: what it refuses, all at once and by name; what the contract says of what it takes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx_check import Compiled
from tiny_models import save

from onnxkiln.contract import DimRange
from onnxkiln.errors import ConversionError, ModelError, UnsupportedOperators
from onnxkiln.frontend import import_model


def value(name: str, dims: list | None = None, kind: int = 1) -> onnx.ValueInfoProto:
    return oh.make_tensor_value_info(name, kind, ["n"] if dims is None else dims)


def model_of(
    nodes: list, inputs: list, outputs: list, imports: dict[str, int] | None = None, **fields: object
) -> onnx.ModelProto:
    graph = oh.make_graph(nodes, "g", inputs, outputs, fields.pop("initializer", []))
    opsets = [oh.make_opsetid(domain, version) for domain, version in (imports or {"": 20}).items()]
    return oh.make_model(graph, opset_imports=opsets, ir_version=10, **fields)


def refused(model: onnx.ModelProto, tmp_path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        import_model(save(model, tmp_path))
    return caught.value


def test_every_unsupported_node_is_named_at_once(tmp_path):
    branch = oh.make_graph([oh.make_node("Strange", ["x"], ["o"], name="inner", domain="acme")], "b", [], [value("o")])
    other = oh.make_graph([oh.make_node("Neg", ["x"], ["o2"])], "e", [], [value("o2")])
    nodes = [
        oh.make_node("Frobnicate", ["x"], ["a"], name="first"),
        oh.make_node("Strange", ["a"], ["b"], domain="acme"),
        oh.make_node("Neg", ["b"], ["c"], domain="elsewhere", name="lost"),
        oh.make_node("If", ["flag"], ["y"], name="choice", then_branch=branch, else_branch=other),
    ]
    inputs = [value("x"), value("flag", [], onnx.TensorProto.BOOL)]
    model = model_of(nodes, inputs, [value("y"), value("c")], {"": 20, "acme": 3})
    error = refused(model, tmp_path)
    assert isinstance(error, UnsupportedOperators)
    found = {(node.name, node.op_type, node.domain, node.opset, node.where) for node in error.nodes}
    assert found == {
        ("first", "Frobnicate", "", 20, "main"),
        ("b", "Strange", "acme", 3, "main"),
        ("lost", "Neg", "elsewhere", None, "main"),
        ("inner", "Strange", "acme", 3, "main/choice.then_branch"),
    }
    words = str(error)
    assert "4 node(s)" in words and "main/choice.then_branch: node 'inner': acme.Strange, opset 3" in words
    assert "imports no opset of domain 'elsewhere'" in words


def test_a_domain_is_not_mistaken_for_another(tmp_path):
    """TVM's own importer looks at the operator's name alone."""
    error = refused(
        model_of([oh.make_node("Relu", ["x"], ["y"], domain="acme")], [value("x")], [value("y")], {"": 20, "acme": 1}),
        tmp_path,
    )
    assert isinstance(error, UnsupportedOperators) and error.nodes[0].domain == "acme"


def test_a_refused_argument_names_its_node(tmp_path):
    axes = oh.make_tensor("axes", 7, [1], [5])
    nodes = [oh.make_node("Unsqueeze", ["x", "axes"], ["y"], name="too_far")]
    error = refused(model_of(nodes, [value("x")], [value("y", ["n", 1])], initializer=[axes]), tmp_path)
    assert isinstance(error, ConversionError)
    where = f"{tmp_path / 'model.onnx'}: main: node 'too_far' (ai.onnx.Unsqueeze, opset 20)"
    assert str(error).startswith(f"{where}: axis 5 does not exist")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (oh.make_tensor_sequence_value_info("x", 8, ["n"]), "input 'x' holds strings"),
        (oh.make_value_info("x", oh.make_optional_type_proto(value("x").type)), "input 'x' is a .*; only tensors and"),
        (value("x", kind=onnx.TensorProto.STRING), "input 'x' holds strings"),
    ],
)
def test_inputs_that_are_no_numbers(given, words, tmp_path):
    node = oh.make_node("Identity", ["x"], ["y"])
    out = oh.make_value_info("y", given.type)
    error = refused(model_of([node], [given], [out]), tmp_path)
    import re

    assert re.search(words, str(error))


def test_the_contract(tmp_path):
    nodes = [
        oh.make_node("Concat", ["past", "new"], ["all"], axis=1),
        oh.make_node("Shape", ["all"], ["shape"]),
        oh.make_node("Cast", ["new"], ["small"], to=onnx.TensorProto.FLOAT16),
    ]
    inputs = [value("past", ["batch", "past.len", 4]), value("new", ["batch", "seq", 4]), value("unused", [2], 7)]
    outputs = [value("all", None), value("shape", [3], 7), value("small", None, 10)]
    imported = import_model(save(model_of(nodes, inputs, outputs), tmp_path), {"new": [None, DimRange(1, 8), None]})
    contract = imported.contract
    assert [str(spec) for spec in contract.inputs] == [
        "past: float32[batch, past.len, 4]",
        "new: float32[batch, seq, 4]",
        "unused: int64[2]",
    ]
    assert [spec.name for spec in contract.outputs] == ["all", "shape", "small"]
    assert contract.outputs[0].shape in {("batch", "past.len + seq", 4), ("batch", "seq + past.len", 4)}
    assert (contract.outputs[1].shape, contract.outputs[1].dtype) == ((3,), "int64")
    assert (contract.outputs[2].shape, contract.outputs[2].dtype) == (("batch", "seq", 4), "float16")
    assert contract.dims == {"batch": DimRange(), "past.len": DimRange(), "seq": DimRange(1, 8)}


def test_dims_whose_names_differ_in_punctuation_alone_stay_apart(tmp_path):
    nodes = [oh.make_node("Neg", ["x"], ["p"]), oh.make_node("Neg", ["y"], ["q"])]
    model = model_of(nodes, [value("x", ["a.b"]), value("y", ["a_b"])], [value("p", None), value("q", None)])
    imported = import_model(save(model, tmp_path), {"x": [DimRange(1, 4)], "y": [DimRange(1, 100)]})
    bounds = {name: int(bound) for name, bound in imported.module["main"].attrs["tir_var_upper_bound"].items()}
    assert sorted(bounds.values()) == [4, 100]
    assert [spec.shape for spec in imported.contract.outputs] == [("a.b",), ("a_b",)]


def test_outputs_that_are_inputs_constants_or_given_twice():
    constant = oh.make_tensor("k", 1, [2], [1.0, 2.0])
    nodes = [oh.make_node("Identity", ["x"], ["same"]), oh.make_node("Neg", ["x"], ["y"])]
    outputs = [value("same"), value("k", [2]), value("y"), value("x")]
    model = Compiled(model_of(nodes, [value("x")], outputs, initializer=[constant]))
    x = np.array([3.0, -1.0], np.float32)
    for result, expected in zip(model({"x": x}), [x, np.array([1.0, 2.0]), -x, x], strict=True):
        np.testing.assert_array_equal(result, expected)


def test_initializers_listed_as_inputs_are_weights(tmp_path):
    """Files of IR version 3 list them so."""
    weight = oh.make_tensor("w", 1, [2], [1.0, 2.0])
    model = model_of(
        [oh.make_node("Add", ["x", "w"], ["y"])],
        [value("x", [2]), value("w", [2])],
        [value("y", [2])],
        initializer=[weight],
    )
    assert [spec.name for spec in import_model(save(model, tmp_path)).contract.inputs] == ["x"]


def test_inner_graphs_see_and_do_not_change_outer_values():
    def branch(op_type: str, factor: float, out: str) -> onnx.GraphProto:
        weight = oh.make_tensor("w", 1, [1], [factor])
        steps = [oh.make_node(op_type, ["x", "x"], ["t"]), oh.make_node("Mul", ["t", "w"], [out])]
        return oh.make_graph(steps, out, [], [value(out)], [weight])

    inner, other = branch("Add", 3.0, "o"), branch("Mul", 5.0, "o2")
    nodes = [oh.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)]
    model = Compiled(model_of(nodes, [value("c", [], onnx.TensorProto.BOOL), value("x")], [value("y")]))
    x = np.array([1.0, 2.0], np.float32)
    np.testing.assert_array_equal(model({"c": np.array(True), "x": x})[0], x * 6)
    np.testing.assert_array_equal(model({"c": np.array(False), "x": x})[0], x * x * 5)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (IndexError("tuple index out of range"), "IndexError: tuple index out of range"),
        (KeyError("dims"), "KeyError: 'dims'"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (OverflowError(), "OverflowError"),
        (ValueError("no such mode"), "(ai.onnx.Neg, opset 20): no such mode"),
    ],
)
def test_whatever_a_converter_trips_over_names_file_node_and_operator(error, words, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("onnxkiln.frontend.converter.lookup", lambda *_: broken)
    path = save(model_of([oh.make_node("Neg", ["x"], ["y"], name="minus")], [value("x")], [value("y")]), tmp_path)
    with pytest.raises(ConversionError) as caught:
        import_model(path)
    assert str(caught.value).startswith(f"{path}: main: node 'minus' (ai.onnx.Neg, opset 20): ")
    assert words in str(caught.value) and caught.value.__cause__.__cause__ is error
