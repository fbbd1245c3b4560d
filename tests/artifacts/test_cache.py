"""The build cache: what counts as unchanged, what as another build, and what is no answer at all."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts
import tiny_models

import onnxkiln
from onnxkiln.artifacts import cache
from onnxkiln.artifacts.cache import describe_request, is_current, shapes_of
from onnxkiln.artifacts.manifest import Source
from onnxkiln.errors import UsageError


def request(**changes):
    return describe_request(**({"target": "cpu", "shapes": {"x": [1, 3]}, "level": "O2"} | changes))


@pytest.fixture
def built(tmp_path):
    """(artifact, model): one whose weight lies in a file of its own. The code is another's: it isn't looked at."""
    (tmp_path / "w.bin").write_bytes(tiny_models.WEIGHT.tobytes())
    weight = tiny_models.external("w", tiny_models.WEIGHT, location="w.bin")
    model = tiny_models.save(tiny_models.matmul(weight), tmp_path)
    digest = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (model, tmp_path / "w.bin")}
    source = Source("model.onnx", digest["model.onnx"], {"ai.onnx": 20}, {"w.bin": digest["w.bin"]})
    made = tiny_artifacts.scale_request(16, source=source, request=request(), include_runtime=False)
    return tiny_artifacts.write(made, tmp_path), model


def test_the_same_again_is_current(built):
    assert is_current(*built, request())


def test_a_model_of_another_name_is_the_same(built):
    artifact, model = built
    assert is_current(artifact, Path(shutil.copy(model, model.with_name("other.onnx"))), request())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"level": "O1"}, 'level: "O2" then, "O1" now'),
        ({"shapes": None}, 'shapes: {"x": [1, 3]} then, {} now'),
        ({"shapes": {"x": [onnxkiln.DimRange(1, 4), 3]}}, "[[1, 4], 3]"),
        ({"target": "cpu:x86-64-v1"}, 'target: "cpu" then, "cpu:x86-64-v1" now'),
        ({"quantize": "int8"}, 'quantize: nothing then, "int8" now'),
    ],
)
def test_other_options_are_refused_by_name(built, changes, words):
    with pytest.raises(UsageError, match="made otherwise") as refusal:
        is_current(*built, request(**changes))
    assert words in refusal.value.message
    assert "--force" in refusal.value.hint


def test_another_compiler_is_noticed(built, monkeypatch):
    monkeypatch.setattr(cache, "_sources_digest", lambda: "0" * 64)
    with pytest.raises(UsageError, match="own source has changed"):
        is_current(*built, request())


def test_the_digest_of_the_compiler_covers_passes_and_the_pool():
    names = {path.relative_to(cache._ROOT).as_posix() for path in cache._source_files()}
    assert {"compiler.py", "passes/pipeline.py", "frontend/ops/conv.py", "artifacts/parallel.c"} <= names
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]


def test_a_changed_model_is_noticed(built):
    artifact, model = built
    model.write_bytes(tiny_models.inside().SerializeToString())
    with pytest.raises(UsageError, match="the model is another one"):
        is_current(artifact, model, request())


def test_changed_external_data_is_noticed(built):
    artifact, model = built
    data = model.with_name("w.bin")
    data.write_bytes((tiny_models.WEIGHT + np.float32(1)).tobytes())
    with pytest.raises(UsageError, match=r"data file 'w\.bin' has changed"):
        is_current(artifact, model, request())
    data.unlink()
    with pytest.raises(UsageError, match=r"data file 'w\.bin' can't be read"):
        is_current(artifact, model, request())


def test_no_path_of_a_manifest_leads_out_of_the_models_folder(built):
    artifact, model = built
    inside = tiny_artifacts.edit_manifest
    inside(artifact, lambda document: document["source"].update(external={"../../etc/passwd": "0" * 64}))
    with pytest.raises(UsageError, match="not a path inside"):
        is_current(artifact, model, request())


def test_a_damaged_artifact_is_not_current(built):
    artifact, model = built
    content = bytearray((artifact / "model.so").read_bytes())
    content[-1] ^= 1
    (artifact / "model.so").write_bytes(content)
    with pytest.raises(UsageError, match=r"is damaged: .*model\.so"):
        is_current(artifact, model, request())


def test_what_is_no_artifact_or_tells_nothing_is_left_to_others(built):
    artifact, model = built
    assert not is_current(artifact.with_name("absent"), model, request())
    assert not is_current(artifact, model.with_name("absent.onnx"), request())
    tiny_artifacts.edit_manifest(artifact, lambda document: document.pop("request"))
    assert not is_current(artifact, model, request())


def test_shapes_survive_the_manifest():
    shapes = {"x": [1, "batch", onnxkiln.DimRange(1, None), None]}
    assert shapes_of(request(shapes=shapes)) == shapes


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder in which ``model.onnx`` was compiled to ``out``."""
    folder = tmp_path_factory.mktemp("compiled")
    model = tiny_models.save(tiny_models.inside(), folder)
    onnxkiln.compile(model, folder / "out", include_runtime=False)
    return folder


def test_another_process_and_folder_give_the_same_bytes(compiled, tmp_path):
    shutil.copy(compiled / "model.onnx", tmp_path)
    code = "import onnxkiln; onnxkiln.compile('model.onnx', 'again', include_runtime=False)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "7"})
    files = {path.name: path.read_bytes() for path in (compiled / "out").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files


def test_the_answer_needs_no_tvm(compiled):
    code = """
import sys
import onnxkiln
stages = []
note = lambda stage, *_: stages.append(stage)
onnxkiln.compile("model.onnx", "out", include_runtime=False, progress=note)
assert stages == [onnxkiln.UP_TO_DATE], stages
assert not {"tvm", "onnx"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=compiled)
