"""``scripts/gpu_check.py``: its table says what was compiled, and what ran where."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tvm
from gpu_emulation import NEEDS_CXX, compile_emulated, environment
from source_tree import ROOT
from tvm import te

import gpu_check
from bench_models.catalog import BenchModel, Generated

MODEL = Path(__file__).parents[1] / "models" / "simple_model.onnx"
LISTED = Generated("simple", lambda: None, {"x": (2, 3, 32, 32)})  # type: ignore[arg-type]


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_check, "load_models", lambda names: [BenchModel("simple", partial(Path, MODEL), LISTED)])
    monkeypatch.setattr(gpu_check, "FOLDER", tmp_path / "gpu")


def test_without_a_gpu_models_are_compiled(simple: None, capsys: pytest.CaptureFixture[str]) -> None:
    if not gpu_check.why_no_gpu():
        pytest.skip("this machine has a GPU")
    assert gpu_check.main(["--target", "cuda:sm_90"]) == 0
    text = capsys.readouterr().out
    assert "sm_90.cubin compute_90.ptx" in text and "nothing ran: there is no NVIDIA driver" in text
    assert ", 0 loops" in text
    assert gpu_check.main(["--target", "cuda:sm_90", "--limit", "0"]) == 1
    assert "took longer than 0 processor seconds" in capsys.readouterr().out


@NEEDS_CXX
def test_with_a_gpu_outputs_are_compared(tmp_path: Path) -> None:
    artifact, kernels = compile_emulated(MODEL, tmp_path, machine_code=False)
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import gpu_check
from pathlib import Path
from bench_models.catalog import BenchModel, Generated
model = BenchModel("simple", None, Generated("simple", None, {{"x": (2, 3, 32, 32)}}))
print(gpu_check.why_no_gpu(), *gpu_check.run(model, Path({str(MODEL)!r}), Path({str(artifact)!r}), None), sep="|")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(FAKE_CUDA_KERNELS=str(kernels)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    nothing, used, ms, result = done.stdout.strip().split("|")
    assert (nothing, result) == ("", "passed")
    assert "Pretended GPU 0, sm_90" in used and float(ms) > 0


def test_a_host_that_computes_is_seen(simple: None, capsys: pytest.CaptureFixture[str]) -> None:
    """As if the compiler had left a loop in a function that starts kernels."""
    look = gpu_check.HostFunctions._look

    def with_loop(self: gpu_check.HostFunctions, host: object) -> None:
        look(self, host)
        look(self, tvm.IRModule({"main": te.create_prim_func([a, te.compute((4,), lambda i: a[i] + 1)])}))

    a = te.placeholder((4,), name="a")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gpu_check.HostFunctions, "_look", with_loop)
        assert gpu_check.main(["--target", "cuda:sm_90"]) == 1
    assert "the host computes" in capsys.readouterr().out
