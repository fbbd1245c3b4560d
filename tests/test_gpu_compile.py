"""``--target cuda``: what is refused before anything takes time, and how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from gpu_emulation import NEEDS_CXX, compile_emulated, run_emulated

import onnxkiln
from onnxkiln.artifacts import nvrtc
from onnxkiln.errors import CompileError, KilnError, ToolchainError, UsageError

MODEL = Path(__file__).parent / "models" / "simple_model.onnx"
LOOP = """<ir_version: 10, opset_import: ["" : 20]>
counts (int64 trips, float[4] x) => (float[4] y) {
  always = Constant<value = bool {1}>()
  y = Loop(trips, always, x) <body = once (int64 i, bool go, float[4] a) => (bool more, float[4] b) {
    more = Identity(go)
    b = Add(a, a)
  }>
}"""


def test_an_unknown_architecture_is_wrong_usage(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "onnxkiln", "compile", MODEL, "-o", tmp_path / "out", "--target", "cuda:sm_91"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'sm_91' is not known" in done.stderr and "sm_90" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_nvrtc_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "wheel_folder", lambda: None)
    with pytest.raises(ToolchainError, match=r"onnxkiln\[cuda\]"):
        onnxkiln.compile(MODEL, tmp_path / "out", target="cuda", progress=_no_progress)


def _no_progress(stage: str, done: int, total: int) -> None:
    raise AssertionError(f"stage {stage} began")


@pytest.mark.parametrize("options", [{"tune": "1s"}, {"quantize": "int8"}])
def test_what_is_for_processors_only(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))} is for processors only yet"):
        onnxkiln.compile(MODEL, tmp_path / "out", target="cuda", progress=_no_progress, **options)


def test_loops_are_refused_in_words(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LOOP), tmp_path / "loop.onnx")
    with pytest.raises(CompileError, match="Loop and Scan are for processors only yet"):
        onnxkiln.compile(tmp_path / "loop.onnx", tmp_path / "out", target="cuda:sm_90")
    assert not (tmp_path / "out").exists()


@NEEDS_CXX
def test_a_graph_of_nothing_but_views(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    text = """<ir_version: 10, opset_import: ["" : 20]>
    views (float[2, 6] x) => (float[3, 4] y) { s = Constant<value_ints = [3, 4]>() y = Reshape(x, s) }"""
    artifact, kernels = compile_emulated(onnx.parser.parse_model(text), tmp_path, machine_code=False)
    ((y,),) = run_emulated(artifact, kernels, [{"x": x}], tmp_path)
    np.testing.assert_array_equal(y, x.reshape(3, 4))


def test_a_second_compile_of_the_same_is_none(tmp_path: Path) -> None:
    stages: list[str] = []
    for _ in range(2):
        stages.clear()
        onnxkiln.compile(MODEL, tmp_path / "out", target="cuda:sm_90", progress=lambda stage, *_: stages.append(stage))
    assert stages == [onnxkiln.UP_TO_DATE]
    with pytest.raises(KilnError, match="target"):
        onnxkiln.compile(MODEL, tmp_path / "out", target="cuda:sm_80")
