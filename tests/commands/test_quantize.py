"""``onnxkiln quantize``: the table of layers, the calibration file, the ONNX file."""

import json

import numpy as np
import onnx
import pytest
from quantized_models import noise, residual_network, run, signal_to_noise


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    onnx.save(residual_network(), folder / "network.onnx")
    np.savez(folder / "data.npz", x=noise(6, 3, 13, 13))
    return folder


def test_every_layer_has_a_line_and_the_results_are_files(kiln, files, tmp_path):
    model = files / "network.onnx"
    saved, integers = tmp_path / "ranges.json", tmp_path / "network.int8.onnx"
    arguments = ("quantize", model, "--calibrate", files / "data.npz", "--exclude", "c3_node")
    outcome = kiln(*arguments, "--save-calibration", saved, "--onnx", integers, "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["name"]: row for row in json.loads(outcome.out)["layers"]}
    assert [row["arithmetic"] for row in rows.values()] == ["int8", "int8", "float: excluded", "int8"]
    assert rows["c3_node"]["decibels"] is None
    assert all(row["ms_float"] > 0 and row["ms_int8"] > 0 for row in rows.values() if row["arithmetic"] == "int8")
    assert all(20 < row["decibels"] < 60 for row in rows.values() if row["arithmetic"] == "int8")
    assert rows["c1_node"]["low"] == pytest.approx(noise(6, 3, 13, 13).min())
    feeds = {"x": noise(2, 3, 13, 13, seed=4)}
    assert signal_to_noise(run(onnx.load(model), feeds)[0], run(onnx.load(integers), feeds)[0]) > 25
    again = kiln("quantize", model, "--calibrate", saved, "--exclude", "c3_node", "--no-times")
    assert again.code == 0, again.err
    lines = again.out.splitlines()
    assert lines[0].split()[:3] == ["layer", "operator", "weight"]
    assert lines[1].split()[:3] == ["c1_node", "Conv", "8x3x3x3"]
    assert lines[3].endswith("float: excluded")


def test_dynamic_layers_have_no_ranges(kiln, files):
    arguments = ("quantize", files / "network.onnx", "--quantize", "int8-dynamic", "--no-times")
    outcome = kiln(*arguments, "--json")
    rows = json.loads(outcome.out)["layers"]
    assert {(row["low"], row["decibels"], row["arithmetic"]) for row in rows} == {(None, None, "int8")}
    measured = json.loads(kiln(*arguments, "--calibrate", files / "data.npz", "--json").out)["layers"]
    assert all(row["decibels"] > 20 for row in measured)


def test_bad_usage_is_said(kiln, files):
    assert "needs calibration data" in kiln("quantize", files / "network.onnx").err
    refused = kiln("quantize", files / "missing.onnx", "--calibrate", files / "data.npz")
    assert refused.code == 1
    assert "missing.onnx" in refused.err
