"""What can be wrong with a model file: each refused with the words that help."""

from __future__ import annotations

import os

import onnx
import onnx.helper as oh
import pytest
from tiny_models import inside, save

from onnxkiln.errors import ModelError
from onnxkiln.frontend import import_model


def value(name: str, dims: list | None = None) -> onnx.ValueInfoProto:
    return oh.make_tensor_value_info(name, 1, dims or ["n"])


def model_of(nodes: list, *, inputs: tuple = ("x",), outputs: tuple = ("y",), **fields: object) -> onnx.ModelProto:
    graph = oh.make_graph(nodes, "g", [value(name) for name in inputs], [value(name) for name in outputs])
    return oh.make_model(graph, **{"opset_imports": [oh.make_opsetid("", 20)], "ir_version": 10, **fields})


def refused(path, words: str) -> ModelError:
    with pytest.raises(ModelError, match=words) as caught:
        import_model(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_no_file_a_folder_and_a_pipe(tmp_path):
    assert refused(tmp_path / "none.onnx", "the model file does not exist").hint
    refused(tmp_path, "the model file is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = save(inside(), tmp_path)
    path.chmod(0)
    refused(path, "can't be read: Permission denied")


def test_truncated_empty_and_foreign_files(tmp_path):
    path = save(inside(), tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(path, "not a readable ONNX file|holds no graph|not a valid ONNX model|made by no node|the file holds")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    refused(path, "not a readable ONNX file|holds no graph")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            model_of([oh.make_node("Neg", ["x"], ["y"])], opset_imports=[oh.make_opsetid("", 999)]),
            "needs ai.onnx opset 999",
        ),
        (
            model_of([oh.make_node("Neg", ["x"], ["y"])], opset_imports=[oh.make_opsetid("", 0)]),
            "opset 0 of ai.onnx does not",
        ),
        (model_of([oh.make_node("Neg", ["x"], ["y"])], ir_version=99), "ir_version 99 is higher"),
        (
            model_of([oh.make_node("Add", ["x", "b"], ["a"]), oh.make_node("Neg", ["a"], ["b"])], outputs=("b",)),
            "'b' of node",
        ),
        (model_of([oh.make_node("Neg", ["nothing"], ["y"])]), "input 'nothing' of node"),
        (model_of([oh.make_node("Neg", ["x"], ["z"])]), "output 'y' is not an output of any node"),
        (model_of([oh.make_node("Neg", ["x"], ["y"], bogus=3)]), "Unrecognized attribute: bogus"),
        (model_of([oh.make_node("Neg", ["x", "x"], ["y"])]), "input size 2 not in range"),
        (model_of([oh.make_node("Neg", ["x"], ["y"]), oh.make_node("Abs", ["x"], ["y"])]), "single static assignment"),
    ],
)
def test_models_that_are_no_valid_onnx(model, words, tmp_path):
    refused(save(model, tmp_path), words)


def test_values_used_before_they_exist_behind_an_unknown_operator(tmp_path):
    """ONNX's checker stops at the operator that it doesn't know."""
    nodes = [oh.make_node("NoSuchOperator", ["x"], ["a"]), oh.make_node("Neg", ["later"], ["y"], name="early")]
    refused(save(model_of(nodes), tmp_path), "node 'early' .Neg. reads 'later', which nothing before it makes")


def test_functions_that_call_themselves(tmp_path):
    body = [oh.make_node("F", ["a"], ["b"], domain="d")]
    imports = [oh.make_opsetid("", 20), oh.make_opsetid("d", 1)]
    function = oh.make_function("d", "F", ["a"], ["b"], body, imports)
    model = model_of([oh.make_node("F", ["x"], ["y"], domain="d")], opset_imports=imports, functions=[function])
    refused(save(model, tmp_path), "function 'F': functions call one another more than 100 deep, or in a circle")


def test_functions_that_multiply(tmp_path):
    """A few kilobytes that are a hundred thousand million nodes once functions are inlined."""
    imports = [oh.make_opsetid("", 20), oh.make_opsetid("d", 1)]
    functions = [oh.make_function("d", "F0", ["v0"], ["v10"], [oh.make_node("Neg", ["v0"], ["v10"])], imports)]
    for level in range(1, 12):
        calls = [oh.make_node(f"F{level - 1}", [f"v{k}"], [f"v{k + 1}"], domain="d") for k in range(10)]
        functions.append(oh.make_function("d", f"F{level}", ["v0"], ["v10"], calls, imports))
    nodes = [oh.make_node("F11", ["x"], ["y"], domain="d")]
    path = save(model_of(nodes, opset_imports=imports, functions=functions), tmp_path)
    assert path.stat().st_size < 10_000
    refused(path, "has 2111[0-9]* nodes, more than the 1000000 that are taken")


def test_graphs_nested_too_deep(tmp_path):
    def field(number: int, payload: bytes) -> bytes:
        size = len(payload)
        length = b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + payload

    graph = b""
    for _ in range(500):
        graph = field(1, field(5, field(6, graph)))  # graph.node, node.attribute, attribute.g
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x08\x0a" + field(7, graph))
    refused(path, "not a readable ONNX file")


def test_sparse_initializers(tmp_path):
    model = inside()
    values = oh.make_tensor("s", 1, [1], [1.0])
    model.graph.sparse_initializer.add(values=values, indices=oh.make_tensor("i", 7, [1], [0]), dims=[4])
    refused(save(model, tmp_path), "'s' is sparse, which is not supported yet")


def test_the_source_is_recorded(tmp_path):
    import hashlib

    path = save(inside(producer_name="maker", producer_version="3"), tmp_path)
    source = import_model(path).source
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (source.opsets, source.producer, source.external) == ({"ai.onnx": 20}, "maker 3", ())
