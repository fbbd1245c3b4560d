"""Artifacts against ONNX Runtime: right ones agree, and a planted error is traced to its node."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnx.helper as oh
import pytest
import tiny_models
from tvm import relax

import onnxkiln
from onnxkiln.artifacts.random_feeds import random_feeds
from onnxkiln.errors import CompileError, InputError, ModelError, ToolchainError, UsageError
from onnxkiln.frontend import converter
from onnxkiln.verifier import verify


def branches():
    """A graph with two branches that join, a node of two outputs, an If over outer values, and a shape calculation."""
    scalar = oh.make_tensor_value_info("chosen", 1, None)
    graphs = {
        f"{name}_branch": oh.make_graph([oh.make_node(op, ["left"], ["chosen"])], name, [], [scalar])
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [
        oh.make_node("MatMul", ["x", "w"], ["product"], name="multiply"),
        oh.make_node("Tanh", ["product"], ["bent"], name="bend"),
        oh.make_node("Split", ["bent"], ["left", "right"], name="split", axis=1, num_outputs=2),
        oh.make_node("Sigmoid", ["right"], ["gate"], name="gate"),
        oh.make_node("ReduceSum", ["left"], ["sum"], name="total", keepdims=0),
        oh.make_node("Greater", ["sum", "zero"], ["positive"], name="is positive"),
        oh.make_node("If", ["positive"], ["picked"], name="pick", **graphs),
        oh.make_node("Mul", ["picked", "gate"], ["gated"], name="apply"),
        oh.make_node("Softmax", ["gated"], ["soft"], name="normalise"),
        oh.make_node("Add", ["soft", "gate"], ["y"], name="join"),
    ]
    model = tiny_models.matmul(oh.make_tensor("w", 1, (3, 4), tiny_models.WEIGHT / 10), nodes)
    model.graph.initializer.append(oh.make_tensor("zero", 1, (), [0.0]))
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.save(branches(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def artifact(model, tmp_path_factory):
    return onnxkiln.compile(model, tmp_path_factory.mktemp("artifact") / "out", include_runtime=False)


def plant(monkeypatch, op_type, wrong):
    """Make the converter of one operator wrong: ``wrong`` is applied to its first output."""
    original = converter.lookup

    def lookup(domain, name, opset):
        convert = original(domain, name, opset)
        if name != op_type:
            return convert

        def convert_wrongly(context, node, inputs):
            result = convert(context, node, inputs)
            first, *rest = result if isinstance(result, list | tuple) else [result]
            return [context.emit(wrong(first)), *rest]

        return convert_wrongly

    monkeypatch.setattr(converter, "lookup", lookup)


def slightly_more(value):
    return relax.op.multiply(value, relax.const(1.01, "float32"))


def test_a_right_artifact_agrees(artifact, model):
    report = verify(artifact, model, sizes={"n": 5})
    assert report.agrees
    assert (report.inputs, report.finding, report.notes) == ({"x": "float32[5, 3]"}, None, ())
    assert [output.name for output in report.outputs] == ["y"]


def test_own_inputs_are_used(artifact, model):
    report = verify(artifact, model, {"x": np.full((2, 3), np.nan, np.float32)})
    assert report.agrees
    assert report.inputs == {"x": "float32[2, 3]"}


@pytest.mark.parametrize(("op_type", "name", "position"), [("Sigmoid", "gate", 3), ("Softmax", "normalise", 8)])
def test_a_wrong_kernel_is_traced_to_its_node(model, tmp_path, monkeypatch, op_type, name, position):
    plant(monkeypatch, op_type, slightly_more)
    wrong = onnxkiln.compile(model, tmp_path / "wrong", include_runtime=False)
    report = verify(wrong, model, sizes={"n": 5})
    assert not report.agrees
    (node,) = report.finding.nodes
    assert (node.name, node.op_type, node.domain, node.position) == (name, op_type, "ai.onnx", position)
    assert report.finding.probes == 1
    difference = report.difference
    assert difference.expected.shape == difference.found.shape == (5, 2)
    assert difference.found.mean == pytest.approx(1.01 * difference.expected.mean, rel=1e-4)
    worst = difference.worst
    assert float(worst.found) == pytest.approx(1.01 * float(worst.expected), rel=1e-4)
    assert json.dumps(report.to_json())


def test_a_value_inside_a_branch_counts_as_the_ifs(model, tmp_path, monkeypatch):
    for op_type in ("Neg", "Abs"):
        plant(monkeypatch, op_type, lambda value: relax.op.multiply(value, relax.const(2, "float32")))
    wrong = onnxkiln.compile(model, tmp_path / "wrong", include_runtime=False)
    report = verify(wrong, model)
    assert [node.name for node in report.finding.nodes] == ["pick"]


def test_a_nan_is_counted(model, tmp_path, monkeypatch):
    plant(monkeypatch, "Tanh", lambda value: relax.op.sqrt(value))
    wrong = onnxkiln.compile(model, tmp_path / "wrong", include_runtime=False)
    report = verify(wrong, model, {"x": np.array([[1, 1, 1], [-1, -1, -1]], np.float32)})
    assert report.finding.node.name == "bend"
    assert (report.difference.expected.nans, report.difference.found.nans) == (0, 4)


def test_an_artifact_that_is_wrong_alone_is_said_to_be(model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        plant(patch, "Sigmoid", slightly_more)
        wrong = onnxkiln.compile(model, tmp_path / "wrong", include_runtime=False)
    report = verify(wrong, model)
    assert not report.finding.reproduced
    assert "compiled anew" in report.notes[0]


def test_ctrl_c_is_not_taken_for_a_failed_probe(model, tmp_path, monkeypatch):
    plant(monkeypatch, "Softmax", slightly_more)
    wrong = onnxkiln.compile(model, tmp_path / "wrong", include_runtime=False)

    def interrupted(*_arguments, **_options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise CompileError("the pass failed") from error

    monkeypatch.setattr("onnxkiln.compiler.compile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify(wrong, model)


def test_without_the_compiler_only_outputs_are_compared(model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        plant(patch, "Sigmoid", slightly_more)
        wrong = onnxkiln.compile(model, tmp_path / "wrong", include_runtime=False)
    monkeypatch.setattr("onnxkiln.versions.TVM_VERSION", "9.9")
    monkeypatch.setitem(onnxkiln.versions._PINS, "apache-tvm", "9.9")
    report = verify(wrong, model)
    assert not report.agrees
    assert "no node is named" in report.notes[0]


def test_another_model_is_refused_unless_forced(artifact, model, tmp_path):
    other = branches()
    other.graph.node[-1].op_type = "Sub"
    other = tiny_models.save(other, tmp_path)
    with pytest.raises(UsageError, match="is not what the artifact was made from") as refusal:
        verify(artifact, other)
    assert "--force" in refusal.value.hint
    report = verify(artifact, other, force=True, bisect=False)
    assert not report.agrees
    assert "another one" in report.notes[0]
    with pytest.raises(ModelError, match="no such model"):
        verify(artifact, tmp_path / "absent.onnx")


def test_changed_external_data_is_another_model(tmp_path):
    (tmp_path / "w.bin").write_bytes(tiny_models.WEIGHT.tobytes())
    weight = tiny_models.external("w", tiny_models.WEIGHT, location="w.bin")
    model = tiny_models.save(tiny_models.matmul(weight), tmp_path)
    artifact = onnxkiln.compile(model, tmp_path / "out", level="O0", include_runtime=False)
    assert verify(artifact, model).agrees
    (tmp_path / "w.bin").write_bytes((tiny_models.WEIGHT + np.float32(1)).tobytes())
    with pytest.raises(UsageError, match=r"w\.bin"):
        verify(artifact, model)
    assert not verify(artifact, model, force=True, bisect=False).agrees


def test_a_node_of_a_model_with_external_data_is_found(tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(tiny_models.WEIGHT.tobytes())
    nodes = [oh.make_node("MatMul", ["x", "w"], ["product"]), oh.make_node("Neg", ["product"], ["y"])]
    weight = tiny_models.external("w", tiny_models.WEIGHT, location="w.bin")
    model = tiny_models.save(tiny_models.matmul(weight, nodes), tmp_path)
    plant(monkeypatch, "MatMul", slightly_more)
    report = verify(onnxkiln.compile(model, tmp_path / "out", level="O0", include_runtime=False), model)
    assert (report.finding.node.name, report.finding.probes) == ("product", 1)


def test_wrong_feeds_are_refused(artifact, model):
    with pytest.raises(InputError):
        verify(artifact, model, {"x": np.zeros((2, 4), np.float32)})


@pytest.mark.parametrize("module", ["onnxruntime", "onnx"])
def test_what_it_needs_is_said_when_it_is_absent(artifact, model, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ToolchainError, match=module) as refusal:
        verify(artifact, model)
    assert "pip install" in refusal.value.hint


def test_random_feeds_follow_seed_and_sizes(artifact):
    with onnxkiln.load(artifact) as session:
        contract = session.contract
    one, again, other = (random_feeds(contract, {"n": 7}, seed)["x"] for seed in (1, 1, 2))
    assert one.shape == (7, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert random_feeds(replace(contract, dims={"n": onnxkiln.DimRange(4, 9)}), {})["x"].shape == (4, 3)
