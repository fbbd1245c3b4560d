"""``scripts/cuda_install.py``: what it says of files and libraries. (To install takes too long for a test.)"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cuda_install
import onnxkiln


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = onnxkiln.compile(cuda_install.MODEL, tmp_path_factory.mktemp("gpu") / "out", target="cuda:sm_80,sm_90")
    return made / "device"


def test_the_compilers_files_are_what_was_asked_for(device: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda_install.wrong_files(device, "cuda:sm_80,sm_90") == []
    assert "sm_80.cubin: sm_80" in capsys.readouterr().out
    assert cuda_install.wrong_files(device, "cuda") == ["sm_86.cubin is missing", "sm_89.cubin is missing"]


def test_other_files_are_not(device: Path, tmp_path: Path) -> None:
    shutil.copytree(device, tmp_path / "device")
    shutil.copy(device / "sm_80.cubin", tmp_path / "device" / "sm_90.cubin")
    (tmp_path / "device" / "compute_90.ptx").write_text("// CUDA C source, as TVM would export it")
    assert cuda_install.wrong_files(tmp_path / "device", "cuda:sm_90") == [
        "sm_90.cubin is sm_80",
        "compute_90.ptx is no PTX of kernels for sm_90",
    ]
    (tmp_path / "device" / "sm_90.cubin").write_bytes(Path(shutil.__file__).read_bytes())
    assert "sm_90.cubin is no ELF file" in cuda_install.wrong_files(tmp_path / "device", "cuda:sm_90")


def test_a_toolkit_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = tmp_path / "cuda" / "bin"
    toolkit.mkdir(parents=True)
    (toolkit / "nvcc").write_text("")
    (toolkit / "nvcc").chmod(0o755)
    found = cuda_install.without_toolkit({"PATH": f"{toolkit}:/usr/bin", "CUDA_PATH": "x", "HOME": "h"})
    assert found == {"PATH": "/usr/bin", "HOME": "h"}
    own = str(tmp_path / "environment" / "libnvrtc.so.13")
    assert cuda_install.strangers([own, "/usr/lib/libc.so.6"], tmp_path) == []
    assert cuda_install.strangers(["/usr/local/cuda/lib64/libnvrtc.so.13"], tmp_path) == [
        "/usr/local/cuda/lib64/libnvrtc.so.13 is not the environment's"
    ]
    assert cuda_install.strangers([], tmp_path) == ["NVRTC was not open"]
