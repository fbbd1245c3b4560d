"""From a checked artifact to a session on a GPU: the libraries, the kernels, the weights in its memory."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import tvm_ffi

from ..errors import ArtifactError, DeviceError
from .device_loading import load_kernels, open_gpu
from .device_session import GpuSession
from .driver import Driver, GpuDevice
from .manifest import Library
from .opening import OpenArtifact
from .runtime import function
from .session import Session, Width
from .starting import load_library
from .weights import map_weights

_lock = threading.Lock()


class _DeviceLibrary:
    """A loaded library with its kernels. Its state is the process's, so that all sessions over one file share it."""

    def __init__(self, module: Any, code: str):
        self.module, self.code = module, code


_device_libraries: weakref.WeakValueDictionary[tuple[int, int], _DeviceLibrary] = weakref.WeakValueDictionary()


def start_on_gpu(artifact: OpenArtifact, library: Library, driver: Driver, device: GpuDevice) -> Session:
    """Load code of ``artifact``, which has been verified, for ``device``. Raises DeviceError and ArtifactError."""
    gpu = open_gpu(artifact, driver, device)
    status = os.fstat(artifact.descriptor(library.path))
    key, path = (status.st_dev, status.st_ino), gpu.code.path if gpu.code else ""
    with _lock:
        loaded = _device_libraries.get(key)
        if loaded is not None and loaded.code != path:
            raise DeviceError(
                f"{artifact.path} is in use in this process with {loaded.code}; cuda:{device.index} needs {path}",
                hint="use one process for each kind of GPU",
            )
    module, width = (loaded.module, Width()) if loaded else load_library(artifact, library)
    if loaded is None:
        if gpu.code is not None:
            _host_library(artifact, module).import_module(load_kernels(artifact, gpu.code))
        with _lock:
            loaded = _device_libraries.setdefault(key, _DeviceLibrary(module, path))
    weights = _move_weights(artifact, device)
    session = GpuSession(artifact.manifest, library.path, loaded.module, weights, 1, width, gpu=gpu)
    session.keep(loaded)
    return session


def _host_library(artifact: OpenArtifact, module: Any) -> Any:
    """The module whose code starts kernels, below the one that holds the virtual machine's program."""
    if len(module.imports) != 1:
        raise ArtifactError(f"{artifact.path}: the library holds {len(module.imports)} modules, not one")
    return module.imports[0]


def _move_weights(artifact: OpenArtifact, device: GpuDevice) -> Any:
    """The weights on the GPU, each in memory of its own: kernels take no tensor that begins inside of another."""
    weights = artifact.manifest.weights
    place, view = tvm_ffi.device("cuda", device.index), function("runtime.TVMTensorCreateView")
    raw = map_weights(artifact.descriptor(weights.path), artifact.manifest.file(weights.path).size, weights)
    moved = tvm_ffi.Array(
        [
            view(_copied(data, place), tvm_ffi.Shape(weight.shape), tvm_ffi.dtype(weight.dtype), 0)
            for data, weight in zip(raw, weights.tensors)
        ]
    )
    function("runtime.Device_StreamSync")(place, 0)
    return moved


def _copied(data: Any, place: Any) -> Any:
    try:
        memory = function("runtime.TVMTensorAllocWithScope")(tvm_ffi.Shape((max(1, data.size),)), "uint8", place, None)
    except Exception as error:
        raise DeviceError(
            f"the weights don't fit into the memory of {place}: {str(error).strip().splitlines()[-1]}",
            hint="close other sessions and programs on that GPU",
        ) from error
    if data.size:
        function("runtime.TVMTensorCopyFromTo")(tvm_ffi.from_dlpack(data), memory)
    return memory
