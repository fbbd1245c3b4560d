"""``onnxkiln compile``: from the command line to an artifact, and what is left when it is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import onnxkiln
from onnxkiln.compare import Comparison

MODEL = Path(__file__).parents[1] / "models" / "simple_model.onnx"


def test_it_makes_an_artifact_and_says_so(kiln, tmp_path):
    outcome = kiln("compile", MODEL, "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["artifact"] == str(tmp_path / "out")
    assert result["seconds"] > 0
    assert (result["measurements"], result["log_hits"]) == (0, 0)
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert kiln("run", tmp_path / "out", "--input", "random", "--dim", "batch=3").code == 0


def test_an_existing_output_is_kept_unless_forced(kiln, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("data")
    outcome = kiln("compile", MODEL, "-o", tmp_path / "out", "--level", "O0")
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert (tmp_path / "out" / "precious").read_text() == "data"


def test_what_has_not_changed_is_not_compiled_again(kiln, tmp_path):
    arguments = ("compile", MODEL, "-o", tmp_path / "out", "--level", "O0", "--no-runtime")
    assert "compiled in" in kiln(*arguments).out
    before = (tmp_path / "out" / "manifest.json").stat()
    assert "up to date" in kiln(*arguments).out
    assert json.loads(kiln(*arguments, "--json").out)["up_to_date"] is True
    after = (tmp_path / "out" / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # reading it changes st_atime
    assert json.loads(kiln(*arguments, "--force", "--json").out)["up_to_date"] is False
    assert (tmp_path / "out" / "manifest.json").stat().st_ino != before.st_ino
    refused = kiln(*arguments[:-3], "--level", "O1", "--no-runtime")
    assert refused.code == 2
    assert 'level: "O0" then, "O1" now' in refused.err


def test_shapes_fix_and_bound_dims(kiln, tmp_path):
    arguments = ("compile", MODEL, "--level", "O0", "--no-runtime")
    assert kiln(*arguments, "-o", tmp_path / "fixed", "--shape", "x=2,3,32,32").code == 0
    fixed = json.loads(kiln("inspect", tmp_path / "fixed", "--json").out)
    assert (fixed["inputs"][0]["shape"], fixed["outputs"][0]["shape"], fixed["dims"]) == ([2, 3, 32, 32], [2, 10], {})
    assert not [path for path in fixed["files"] if "runtime" in path]
    assert kiln(*arguments, "-o", tmp_path / "bound", "--shape", "x=1..8,3,32,32").code == 0
    assert json.loads(kiln("inspect", tmp_path / "bound", "--json").out)["dims"] == {"batch": [1, 8]}


def test_what_was_compiled_is_verified(kiln, tmp_path, monkeypatch):
    arguments = ("compile", MODEL, "-o", tmp_path / "out", "--no-runtime", "--verify", "--max-bytes", "1M")
    assert "agrees with ONNX Runtime" in kiln(*arguments).out
    outcome = kiln(*arguments, "--json")
    assert (outcome.code, json.loads(outcome.out)["verify"]["agrees"]) == (0, True)
    monkeypatch.setattr("onnxkiln.verifier.compare", lambda name, *values: Comparison(name, "differs"))
    outcome = kiln(*arguments)
    assert outcome.code == 1
    assert "DOES NOT AGREE" in outcome.out


def test_it_explains_itself_when_asked(kiln, tmp_path):
    outcome = kiln("compile", MODEL, "-o", tmp_path / "out", "--explain")
    assert "why: select_kernels" in outcome.out and "because" in outcome.out
    shown = kiln("inspect", tmp_path / "out", "--explain").out
    assert outcome.out[outcome.out.index("why:") :] in shown
    assert "why:" not in kiln("inspect", tmp_path / "out").out
    (tmp_path / "out" / "explanations.json").write_text("{}")
    damaged = kiln("inspect", tmp_path / "out", "--explain")
    assert damaged.code == 1 and "explanations.json" in damaged.err


def test_the_module_after_each_pass_is_written(kiln, tmp_path):
    assert kiln("compile", MODEL, "-o", tmp_path / "out", "--no-runtime", "--dump-ir", tmp_path / "ir").code == 0
    dumps = sorted((tmp_path / "ir").iterdir())
    passes = json.loads(kiln("inspect", tmp_path / "out", "--json").out)["passes"]
    assert len(dumps) >= len(passes)
    assert all("main" in path.read_text(encoding="utf-8") for path in dumps)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--shape", "y=1"], 2, "no input named 'y'"),
        (["--shape", "x=1,3"], 2, "rank"),
        (["--shape", "x=1,4,32,32"], 2, "is 3 in the model"),
        (["--shape", "x=1.5"], 2, "is no dim"),
        (["--target", "toaster"], 2, "toaster"),
        (["--max-bytes", "8T"], 2, "8T is no number of bytes"),
        (["--max-bytes", "100K"], 1, "take more than 102400 bytes"),
    ],
)
def test_wrong_options_are_refused_with_words(kiln, tmp_path, options, code, words):
    outcome = kiln("compile", MODEL, "-o", tmp_path / "out", *options)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"no model", MODEL.read_bytes()[:1000]])
def test_a_bad_model_is_refused_with_words(kiln, tmp_path, content):
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    outcome = kiln("compile", tmp_path / "model.onnx", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "model.onnx" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_interrupt_at_any_stage_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stages: list[str] = []
    onnxkiln.compile(MODEL, tmp_path / "whole", level="O0", progress=lambda stage, *_: stages.append(stage))
    assert {"import", "optimize", "build"} <= set(stages)
    for stop in dict.fromkeys(stages):

        def interrupt(stage, *_, stop=stop):
            if stage == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            onnxkiln.compile(MODEL, tmp_path / "out", level="O0", progress=interrupt)
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def until_it_handles_signals(process):
    """Python alone catches SIGINT; SIGTERM is caught from when the program has its handlers."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
        if int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("seconds", [0.5, 1.3])
def test_ctrl_c_ends_the_program_and_leaves_nothing(tmp_path, seconds):
    work = tmp_path / "work"
    temporary = tmp_path / "temporary"
    work.mkdir(), temporary.mkdir()
    command = [sys.executable, "-m", "onnxkiln.cli", "compile", MODEL, "-o", work / "out"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "TMPDIR": str(temporary)}
    )
    until_it_handles_signals(process)
    time.sleep(seconds)
    # As a terminal does it: to the whole group, a running C compiler included.
    os.killpg(process.pid, signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert "Traceback" not in words
    assert list(temporary.iterdir()) == []
    if process.returncode == 0:  # it was done before the signal came
        assert [path.name for path in work.iterdir()] == ["out"]
    else:
        assert process.returncode == 130, words
        assert list(work.iterdir()) == []


def test_a_model_is_quantized(kiln, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32))
    saved = tmp_path / "ranges.json"
    arguments = ("compile", MODEL, "--quantize", "int8", "--level", "O1", "--no-runtime")
    first = kiln(*arguments, "-o", tmp_path / "a", "--calibrate", tmp_path / "data.npz", "--save-calibration", saved)
    assert first.code == 0, first.err
    assert kiln(*arguments, "-o", tmp_path / "b", "--calibrate", saved, "--exclude", "op:Gemm").code == 0
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["quantization"]["int8"] == ["/conv1/Conv"]
    refused = kiln(*arguments, "-o", tmp_path / "c")
    assert refused.code == 2
    assert "needs calibration data" in refused.err
