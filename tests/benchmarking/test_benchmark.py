"""Measuring for real, in child processes, but briefly: what is reported, and what becomes of engines that can't."""

import json

import pytest
import tiny_artifacts

from onnxkiln.benchmarking.benchmark import Effort, _rotated, benchmark
from onnxkiln.benchmarking.engines import ENGINES, Engine
from onnxkiln.errors import InputError

BRIEF = Effort(processes=1, rounds=1, seconds=0.01)
PEER = [ENGINES["onnxruntime"]]


def measure(artifact, model, feeds, peers=PEER, **options):
    return benchmark(artifact, model, feeds, peers, threads=1, effort=BRIEF, **options)


def test_both_are_measured_and_agree(scale, model, feeds):
    stages = []
    report = measure(scale, model, feeds, say=stages.append)
    ours, theirs = (entry.measured for entry in report.entries)
    assert [entry.engine for entry in report.entries] == ["onnxkiln", "onnxruntime"]
    for found in (ours, theirs):
        assert 0 < found.p50 <= found.p90 <= found.p99
        assert found.calls >= 2 and found.runs_per_s > 0 and found.load_ms > 0 and found.first_ms > 0
        assert 1e6 < found.pss <= found.peak < 1e9
        assert found.problem is None
    assert ours.ratio == 1
    assert theirs.ratio == pytest.approx(theirs.p50 / ours.p50)
    assert len(stages) == 2
    assert json.loads(json.dumps(report.to_json()))["inputs"] == {"x": "float32[1024]"}


def test_sizes_are_of_all_that_is_needed(scale, model, feeds):
    ours, theirs = (entry.measured for entry in measure(scale, model, feeds).entries)
    runtime = (scale / "runtime" / "libtvm_runtime.so").stat().st_size
    assert ours.disk > runtime + 5e6  # tvm_ffi's library and modules
    assert theirs.disk > model.stat().st_size + 20e6


def test_differing_outputs_are_told(scale, feeds, tmp_path):
    (_, theirs) = measure(scale, tiny_artifacts.scale_model(tmp_path, "Sub"), feeds).entries
    assert "elements differ" in theirs.measured.problem


def test_an_engine_that_cannot_run_the_model_is_in_the_report(scale, feeds, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    ours, theirs = measure(scale, tmp_path / "bad.onnx", feeds).entries
    assert ours.measured is not None and theirs.measured is None
    assert theirs.words.startswith("can't run this model: InvalidProtobuf")


def test_an_engine_that_is_not_installed_is_named_with_its_cure(scale, model, feeds):
    absent = Engine("onnxruntime", "ONNX Runtime", "no-such-distribution", "pip install it")
    _, theirs = measure(scale, model, feeds, [absent]).entries
    assert (theirs.measured, theirs.version, theirs.words) == (None, None, "not installed; pip install it")


def test_inputs_that_do_not_fit_are_refused(scale, feeds):
    with pytest.raises(InputError, match="can't be run on these inputs: InputError: input 'x' must have shape"):
        measure(scale, None, {"x": feeds["x"][:3]}, [])


def test_everyone_goes_first_once():
    engines = list(ENGINES.values())
    assert {_rotated(engines, number)[0] for number in range(len(engines))} == set(engines)
    assert all(sorted(e.name for e in _rotated(engines, n)) == sorted(ENGINES) for n in range(7))
