"""``onnxkiln bench``: its options, and its three forms of output."""

import json

import pytest
import tiny_artifacts

BRIEF = ("--processes", 1, "--seconds", 0.01)


def test_alone_as_a_table(kiln, scale):
    outcome = kiln("bench", scale, *BRIEF)
    assert outcome.code == 0, outcome.err
    assert "p50 ms" in outcome.out
    assert [line.split()[0] for line in outcome.out.splitlines()[2:4]] == ["engine", "onnxkiln"]


def test_beside_onnx_runtime_as_json_and_markdown(kiln, scale, tmp_path):
    model = tiny_artifacts.scale_model(tmp_path)
    outcome = kiln("bench", scale, "--model", model, "--force", *BRIEF, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [entry["engine"] for entry in found["entries"]] == ["onnxkiln", "onnxruntime"]
    assert found["entries"][1]["measured"]["problem"] is None
    markdown = kiln("bench", scale, "--model", model, "--force", *BRIEF, "--markdown", "--compare", "onnxruntime").out
    assert "| ONNX Runtime |" in markdown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--compare", "onnxruntime"], "none is given"),
        (["--compare", "unicorn"], "no engine 'unicorn'"),
        (["--model", "nowhere.onnx"], "no model file nowhere.onnx"),
        (["--json", "--markdown"], "exclude one another"),
        (["--threads", "0"], "0 is less than 1"),
        (["--seconds", "0"], "not in (0, 60]"),
        (["--dim", "x=1"], "no open dim 'x'"),
    ],
)
def test_wrong_usage(kiln, scale, options, words):
    outcome = kiln("bench", scale, *options)
    assert outcome.code == 2
    assert words in outcome.err


def test_another_model_is_refused(kiln, scale, tmp_path):
    outcome = kiln("bench", scale, "--model", tiny_artifacts.scale_model(tmp_path))
    assert outcome.code == 2
    assert "is not what the artifact was made from" in outcome.err
