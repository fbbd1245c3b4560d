"""Open an artifact: check everything, load one library for this machine, map the weights."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any

import tvm_ffi

from .. import targets
from ..errors import ArtifactError, IsaError, UsageError, VersionError
from .manifest import Library, Manifest
from .opening import OpenArtifact
from .runtime import ensure_runtime, function
from .session import Session, Width
from .weights import map_weights

_VERIFY = ("full", "size")

# Two sessions over one file share the library's state, and so must share what is remembered of it.
_widths: weakref.WeakValueDictionary[tuple[int, int], Width] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def load(
    path: str | os.PathLike[str], *, device: str = "auto", threads: int | None = None, verify: str = "full"
) -> Session:
    """Load the artifact folder ``path``.

    ``threads`` bounds the threads of one ``run`` (None: this machine's physical cores); ``verify`` is "full"
    (digests of all files) or "size". Nothing of the artifact runs before manifest, files, versions and instruction
    set have been checked. Loading then runs native code: do it only with artifacts from a source you trust.

    Raises UsageError, ArtifactError and its subclasses IntegrityError, VersionError, IsaError.
    """
    if device not in ("auto", "cpu"):
        raise UsageError(f"device {device!r} is not supported", hint="use 'auto' or 'cpu'")
    if verify not in _VERIFY:
        raise UsageError(f"verify must be one of {', '.join(_VERIFY)}; found {verify!r}")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise UsageError(f"threads must be a positive number; found {threads!r}")
    with OpenArtifact(Path(path)) as artifact:
        library = choose_library(artifact.manifest)
        artifact.verify(full=verify == "full")
        ensure_runtime(artifact)
        module, width = _load_library(artifact, library)
        weights = _load_weights(artifact)
        cores = threads or targets.host_cores()
        return Session(artifact.manifest, library.path, module, weights, min(cores, len(targets.host_cpus())), width)


def choose_library(manifest: Manifest) -> Library:
    """The best library that this machine can run. Raises IsaError, saying what it lacks for each."""
    ranked = sorted(manifest.libraries, key=_rank, reverse=True)
    lacking = {}
    for library in ranked:
        missing = targets.missing_features(library.features)
        if not missing:
            return library
        lacking[library.isa] = missing
    lines = "; ".join(f"{isa} needs {', '.join(missing)}" for isa, missing in lacking.items())
    architecture = targets.host_architecture()
    raise IsaError(
        f"this processor ({architecture}) lacks instructions that the artifact's code uses: {lines}",
        hint=f"compile the model with a target that it has: {_runnable()}",
    )


def _rank(library: Library) -> tuple[int, int]:
    isa = targets.ISAS.get(library.isa)
    return (isa.rank if isa else 0), len(library.features)


def _runnable() -> str:
    features = targets.host_features()
    names = [f"cpu:{isa.name}" for isa in targets.ISAS.values() if isa.features <= features]
    return ", ".join(names) or "none that onnxkiln knows"


def _load_library(artifact: OpenArtifact, library: Library) -> tuple[Any, Width]:
    try:
        module = function("ffi.Module.load_from_file.so")(artifact.loadable(library.path), "so")
    except Exception as error:
        raise _load_error(artifact, library, error) from error
    for name in ("onnxkiln_use_threads", "vm_load_executable"):
        if not module.implements_function(name, True):
            raise ArtifactError(f"{artifact.path}: {library.path} lacks {name}: it is not an onnxkiln library")
    status = os.fstat(artifact.descriptor(library.path))
    with _lock:
        width = _widths.setdefault((status.st_dev, status.st_ino), Width())
    return module, width


def _load_error(artifact: OpenArtifact, library: Library, error: Exception) -> ArtifactError:
    text = str(error)
    if "version" in text.lower():
        return VersionError(
            f"{artifact.path}: the TVM runtime in this process refuses {library.path}: {text.strip()}",
            hint="compile the model anew with the versions installed here",
        )
    return ArtifactError(f"{artifact.path}: {library.path} can't be loaded: {text.strip()}")


def _load_weights(artifact: OpenArtifact) -> Any:
    weights = artifact.manifest.weights
    view = function("runtime.TVMTensorCreateView")
    size = artifact.manifest.file(weights.path).size
    raw = map_weights(artifact.descriptor(weights.path), size, weights)
    return tvm_ffi.Array(
        [
            view(tvm_ffi.from_dlpack(data), tvm_ffi.Shape(weight.shape), tvm_ffi.dtype(weight.dtype), 0)
            for data, weight in zip(raw, weights.tensors)
        ]
    )
