"""From a checked artifact to a session: the runtime, one library, the weights."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import tvm_ffi

from .. import targets
from ..errors import ArtifactError, VersionError
from .driver import Driver, GpuDevice
from .manifest import Library
from .opening import OpenArtifact
from .runtime import ensure_runtime, function
from .session import Session, Width
from .weights import map_weights

# Two sessions over one file share the library's state, and so must share what is remembered of it.
_widths: weakref.WeakValueDictionary[tuple[int, int], Width] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def start_session(
    artifact: OpenArtifact, library: Library, threads: int | None, device: tuple[Driver, GpuDevice] | None = None
) -> Session:
    """Load native code of ``artifact``, which has been verified. Raises ArtifactError and VersionError.

    ``device`` is the GPU for an artifact with kernels.
    """
    ensure_runtime(artifact)
    if device is not None:
        from .device_starting import start_on_gpu

        return start_on_gpu(artifact, library, *device)
    module, width = load_library(artifact, library)
    weights = _load_weights(artifact)
    cores = threads or targets.host_cores()
    return Session(artifact.manifest, library.path, module, weights, min(cores, len(targets.host_cpus())), width)


def load_library(artifact: OpenArtifact, library: Library) -> tuple[Any, Width]:
    """The library, and what is remembered of its threads. Raises ArtifactError and VersionError."""
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
