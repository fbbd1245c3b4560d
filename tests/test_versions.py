"""The check of the pair that compiles, and of the one package that loads."""

from __future__ import annotations

import pytest
import tvm_ffi

from onnxkiln import versions
from onnxkiln.errors import ToolchainError, VersionError


def pretend(monkeypatch: pytest.MonkeyPatch, **found: str | None) -> None:
    monkeypatch.setattr(versions, "installed", lambda name: found[name.replace("-", "_")])


def test_the_installed_pair_compiles_and_loads() -> None:
    versions.check_compiler()
    versions.check_loader(tvm_ffi.__version__)


def test_wrong_ffi_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, apache_tvm=versions.TVM_VERSION, apache_tvm_ffi="0.1.15.post1")
    with pytest.raises(ToolchainError) as caught:
        versions.check_compiler()
    text = str(caught.value)
    assert "apache-tvm-ffi 0.1.14.post1 is needed, 0.1.15.post1 is installed" in text
    assert "pip install 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1'" in text


def test_absent_tvm(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, apache_tvm=None, apache_tvm_ffi=versions.FFI_VERSION)
    with pytest.raises(ToolchainError, match="none is installed"):
        versions.check_compiler()


@pytest.mark.parametrize("version", ["0.1.14", "0.1.14.post1", "0.1.15.dev2", "0.1.20"])
def test_loader_takes_the_series(version: str) -> None:
    versions.check_loader(version)


@pytest.mark.parametrize("version", ["0.1.13", "0.2.0", "1.0", ""])
def test_loader_refuses_others(version: str) -> None:
    with pytest.raises(VersionError, match=r"apache-tvm-ffi>=0\.1\.14,<0\.2"):
        versions.check_loader(version)


def test_release() -> None:
    assert versions.release("0.27.0.post1+cpu") == (0, 27, 0)
