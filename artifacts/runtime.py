"""Exactly one TVM runtime library in the process: a second copy would abort it, with nothing to catch.

If one is there already it is used. Otherwise the installed TVM's own file is opened when it is the version that the
artifact needs (a later ``import tvm`` then finds it loaded), else the artifact's copy; after the latter, ``import tvm``
is refused with words for the rest of the process.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.machinery
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tvm_ffi

from ..errors import ArtifactError, VersionError
from ..versions import check_loader, installed
from .opening import OpenArtifact

_NAME = "libtvm_runtime.so"
_PROBE = "vm.builtin.make_tuple"
"""A function that every TVM runtime registers."""

_lock = threading.Lock()
_opened: str | None = None
"""The version of the runtime that this module opened."""


def ensure_runtime(artifact: OpenArtifact) -> None:
    """Make sure that a runtime of the version that ``artifact`` was made for is loaded.

    Raises VersionError when another version is in the process or only another is installed, ArtifactError when
    there is none at all.
    """
    global _opened
    check_loader(tvm_ffi.__version__)
    needed = artifact.manifest.created_by.tvm
    with _lock:
        if tvm_ffi.get_global_func(_PROBE, allow_missing=True) is not None:
            _check_present(artifact, needed)
            return
        own = _installed_library() if installed("apache-tvm") == needed else None
        if own is not None:
            _open(str(own))
        elif artifact.manifest.runtime is not None:
            _open(artifact.loadable(artifact.manifest.runtime))
            sys.meta_path.insert(0, _ImportGuard(needed))
        else:
            raise _absent(needed)
        _opened = needed


def _open(path: str) -> None:
    try:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ArtifactError(
            f"the TVM runtime can't be opened: {error}",
            hint="install the apache-tvm-ffi that the artifact was made with",
        ) from error


def _check_present(artifact: OpenArtifact, needed: str) -> None:
    found = _opened or getattr(sys.modules.get("tvm"), "__version__", None)
    if found is None:
        # Somebody else opened it; the bytes tell whether it is ours.
        found = needed if _is_bundled_copy(artifact) else "of unknown version"
    if found != needed:
        raise VersionError(
            f"{artifact.path} needs TVM's runtime {needed}; this process has already loaded one {found}",
            hint="load the artifact in another process, or compile it with the TVM that is in use here",
        )


def _is_bundled_copy(artifact: OpenArtifact) -> bool:
    bundled = artifact.manifest.runtime
    wanted = artifact.manifest.file(bundled).sha256 if bundled else None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.endswith(_NAME) and Path(path).is_file():
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == wanted
    return False


def _installed_library() -> Path | None:
    """The wheel's runtime library, found without importing TVM."""
    package = importlib.machinery.PathFinder.find_spec("tvm")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "lib" / _NAME
    return path if path.is_file() else None


def _absent(needed: str) -> ArtifactError:
    found = installed("apache-tvm")
    hint = f"pip install apache-tvm=={needed}, or compile the model without leaving the runtime out"
    if found is None:
        return ArtifactError("the artifact carries no TVM runtime, and TVM is not installed", hint=hint)
    return VersionError(f"the artifact carries no TVM runtime and needs {needed}; {found} is installed", hint=hint)


class _ImportGuard:
    """A finder that refuses ``import tvm`` while a bundled runtime is loaded; silent when there is no TVM to find."""

    def __init__(self, version: str):
        self._version = version

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tvm" or importlib.machinery.PathFinder.find_spec(name) is None:
            return None
        raise ImportError(
            f"onnxkiln runs an artifact with its own copy of TVM's runtime ({self._version}) in this process, and a "
            "second copy would abort it. What to do: import tvm before onnxkiln.load, install "
            f"apache-tvm=={self._version}, or use another process."
        )


def function(name: str) -> Any:
    """A function that the loaded runtime registered."""
    return tvm_ffi.get_global_func(name)
