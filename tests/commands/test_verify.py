"""``onnxkiln verify``: verdict, exit code, JSON, and the words for a node that is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from tvm import relax

import onnxkiln
from onnxkiln.frontend import converter

MODEL = Path(__file__).parents[1] / "models" / "simple_model.onnx"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return onnxkiln.compile(MODEL, tmp_path_factory.mktemp("artifact") / "out", include_runtime=False)


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """An artifact whose Gemm is off by a hundredth, as long as the test lasts."""
    original = converter.lookup

    def lookup(domain, name, opset):
        convert = original(domain, name, opset)
        if name != "Gemm":
            return convert
        factor = relax.const(1.01, "float32")
        return lambda context, *rest: context.emit(relax.op.multiply(convert(context, *rest), factor))

    monkeypatch.setattr(converter, "lookup", lookup)
    return onnxkiln.compile(MODEL, tmp_path / "wrong", include_runtime=False)


def test_agreement_is_exit_code_0(kiln, artifact):
    outcome = kiln("verify", artifact, MODEL, "--dim", "batch=2", "--seed", "3")
    assert outcome.code == 0, outcome.err
    assert "(model.so) agrees with ONNX Runtime" in outcome.out
    assert "x: float32[2, 3, 32, 32]" in outcome.out


def test_own_inputs_and_json(kiln, artifact, tmp_path):
    np.savez(tmp_path / "feeds.npz", x=np.ones((1, 3, 32, 32), np.float32))
    outcome = kiln("verify", artifact, MODEL, "--input", tmp_path / "feeds.npz", "--json")
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert result["agrees"] is True
    assert result["inputs"] == {"x": "float32[1, 3, 32, 32]"}
    assert result["finding"] is None


def test_a_difference_is_exit_code_1_and_names_the_node(kiln, wrong):
    outcome = kiln("verify", wrong, MODEL)
    assert outcome.code == 1
    assert "DOES NOT AGREE" in outcome.out
    assert "node 4: '/fc/Gemm', Gemm of ai.onnx" in outcome.out
    assert "worst at [0, " in outcome.out
    result = json.loads(kiln("verify", wrong, MODEL, "--json").out)
    assert result["finding"]["nodes"][0]["name"] == "/fc/Gemm"
    assert result["difference"]["expected"]["shape"] == [1, 10]


def test_bisecting_can_be_left_out(kiln, wrong):
    outcome = kiln("verify", wrong, MODEL, "--no-bisect", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["finding"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "absent.npz"], "no input file"),
        (["--input", "absent.npz", "--seed", "1"], "--seed is for random inputs"),
        (["--dim", "rows=2"], "no open dim 'rows'"),
    ],
)
def test_wrong_usage_is_refused_with_words(kiln, artifact, arguments, words):
    outcome = kiln("verify", artifact, MODEL, *arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_another_model_is_refused(kiln, artifact, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(MODEL.read_bytes() + b"\x00")
    outcome = kiln("verify", artifact, other)
    assert outcome.code == 2
    assert "not what the artifact was made from" in outcome.err
