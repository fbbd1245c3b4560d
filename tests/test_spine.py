"""From an ONNX file to outputs, all stages joined: the textbook's model, compiled once, serves every batch size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from source_tree import ROOT

import onnxkiln
from onnxkiln.compare import compare

MODEL = Path(__file__).parent / "models" / "simple_model.onnx"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return onnxkiln.compile(MODEL, tmp_path_factory.mktemp("artifact") / "simple")


def batch_of(size):
    return np.random.default_rng(size).standard_normal((size, 3, 32, 32), dtype=np.float32)


@pytest.mark.parametrize("size", [1, 3, 32])
def test_one_artifact_serves_every_batch(artifact, size):
    expected = onnxruntime.InferenceSession(MODEL).run(None, {"x": batch_of(size)})
    with onnxkiln.load(artifact) as session:
        found = session.run(None, {"x": batch_of(size)})
    assert len(found) == 1
    assert compare("output", expected[0], found[0]).problem is None


def test_the_session_describes_itself_as_onnx_runtime_does(artifact):
    reference = onnxruntime.InferenceSession(MODEL)
    with onnxkiln.load(artifact) as session:
        for ours, theirs in [*zip(session.get_inputs(), reference.get_inputs(), strict=True)]:
            assert (ours.name, list(ours.shape)) == (theirs.name, theirs.shape)
        for ours, theirs in [*zip(session.get_outputs(), reference.get_outputs(), strict=True)]:
            assert (ours.name, list(ours.shape)) == (theirs.name, theirs.shape)


def test_it_runs_without_tvm_and_onnx(artifact, tmp_path):
    np.save(tmp_path / "x.npy", batch_of(3))
    code = """
import sys
import numpy as np
import onnxkiln
with onnxkiln.load(sys.argv[1]) as session:
    (found,) = session.run(None, {"x": np.load("x.npy")})
assert not {"tvm", "onnx"} & set(sys.modules)
np.save("y.npy", found)
"""
    subprocess.run([sys.executable, "-c", code, artifact], check=True, cwd=tmp_path)
    expected = onnxruntime.InferenceSession(MODEL).run(None, {"x": batch_of(3)})
    assert compare("output", expected[0], np.load(tmp_path / "y.npy")).problem is None


def test_the_committed_model_is_what_its_script_writes(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "simple_model.py", tmp_path / "again.onnx"], check=True)
    assert onnx.load(tmp_path / "again.onnx") == onnx.load(MODEL)
