"""``onnxkiln inspect``: artifacts and models in figures."""

import json
from pathlib import Path

import onnx
import pytest
import tiny_artifacts
from onnx import helper

from onnxkiln.artifacts.manifest import Kernel

MODEL = Path(__file__).parents[1] / "models" / "simple_model.onnx"


def test_an_artifact_as_json(kiln, add):
    found = json.loads(kiln("inspect", add, "--json").out)
    assert found["inputs"][0] == {"name": "a", "dtype": "float32", "shape": ["rows", 4]}
    assert found["dims"] == {"rows": [0, 64]}
    assert found["level"] == "O2"
    assert found["files"] == {path: (add / path).stat().st_size for path in found["files"]}
    assert found["bytes"] == sum(found["files"].values())


def test_kernels_are_summed_by_kind(kiln, scale):
    found = json.loads(kiln("inspect", scale, "--json").out)
    assert found["kernel_kinds"] == [{"kind": "generic", "functions": 1, "vectorized": 1, "calls": 1}]
    assert found["passes"] == [{"name": "FuseOps", "applied": 3}]
    assert found["weights"] == {"tensors": 1, "bytes": 4096}


def test_an_artifact_as_text(kiln, scale):
    text = kiln("inspect", scale).out
    words = ("x: float32[1024]", "y: float32[1024]", "FuseOps", "generic", "weights of 4.1 kB", "made by onnxkiln")
    assert not [word for word in words if word not in text]


def test_functions_that_are_not_vectorized_are_named(kiln, tmp_path):
    kernels = [Kernel("quick", "generic", vectorized=True), Kernel("slow", "generic")]
    artifact = tiny_artifacts.write(tiny_artifacts.scale_request(kernels=kernels), tmp_path)
    assert "functions without vector instructions\n  slow\n" in kiln("inspect", artifact).out


def test_inspecting_runs_no_code_of_the_artifact(kiln, scale, tmp_path):
    (tmp_path / "manifest.json").write_bytes((scale / "manifest.json").read_bytes())
    assert kiln("inspect", tmp_path).code == 0


def test_a_model_as_json(kiln):
    found = json.loads(kiln("inspect", MODEL, "--json").out)
    assert found["operators"] == {"Conv": 1, "Relu": 1, "MaxPool": 1, "Flatten": 1, "Gemm": 1}
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 3, 32, 32]}]
    assert found["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 10]}]
    assert found["opsets"] == {"ai.onnx": 17}
    assert found["unsupported"] == []
    assert found["weights"]["tensors"] == 4


def test_a_model_as_text(kiln):
    text = kiln("inspect", MODEL).out
    words = ("5 nodes, opset ai.onnx 17", "x: float32[batch, 3, 32, 32]", "batch: 0..", "every operator has")
    assert not [word for word in words if word not in text]


def test_unsupported_operators_are_listed_with_their_nodes(kiln, tmp_path):
    nodes = [
        helper.make_node("Warp", ["x"], ["a"], name="first", domain="made.up"),
        helper.make_node("Weft", ["a"], ["y"], name="second", domain="made.up"),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("made.up", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "odd.onnx")
    found = json.loads(kiln("inspect", tmp_path / "odd.onnx", "--json").out)
    assert [(node["name"], node["op_type"]) for node in found["unsupported"]] == [("first", "Warp"), ("second", "Weft")]
    assert "can't be compiled" in kiln("inspect", tmp_path / "odd.onnx").out


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "graph"), (b"this is no model", "not a readable ONNX file"), (MODEL.read_bytes()[:5000], "ONNX")],
)
def test_a_damaged_model_is_refused_with_words(kiln, tmp_path, content, words):
    (tmp_path / "bad.onnx").write_bytes(content)
    outcome = kiln("inspect", tmp_path / "bad.onnx")
    assert outcome.code == 1
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_what_is_neither_is_refused(kiln, tmp_path):
    assert "does not exist" in kiln("inspect", tmp_path / "nothing").err
    assert "manifest.json" in kiln("inspect", tmp_path).err


def test_what_the_kernels_of_a_gpu_take(kiln, tmp_path):
    artifact = tmp_path / "artifact"
    assert kiln("compile", MODEL, "--target", "cuda:sm_90", "-o", artifact).code == 0
    found = json.loads(kiln("inspect", artifact, "--json").out)["device"]
    assert [(code["path"], code["architecture"]) for code in found["codes"]] == [
        ("device/sm_90.cubin", 90),
        ("device/compute_90.ptx", 90),
    ]
    taken = {use["name"]: use for use in found["codes"][0]["kernels"]}
    assert taken.keys() == found["threads"].keys()
    assert all(0 < use["registers"] <= 255 and use["shared_bytes"] <= 48 * 1024 for use in taken.values())
    text = kiln("inspect", artifact).out
    assert "device code, by NVRTC 13." in text and "shared bytes" in text
    assert not [name for name in taken if name not in text]
