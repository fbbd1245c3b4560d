"""Bring an artifact's kernels onto a GPU: libcudart, TVM's CUDA runtime, the code for this GPU, a stream."""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm_ffi

from .. import gpus
from ..errors import ArtifactError, DeviceError
from ..versions import installed
from .cuda_wheels import MAJOR, wheel_folder
from .driver import Driver, GpuDevice
from .manifest import Device, DeviceCode
from .opening import OpenArtifact
from .runtime import function

_CUDART = f"libcudart.so.{MAJOR}"
_RUNTIME = "libtvm_runtime_cuda.so"
_PROBE = "device_api.cuda"
_OPAQUE_HANDLE = 3
_LOAD = "ffi.Module.load_from_bytes.cuda"

_lock = threading.Lock()
_streams: dict[int, int] = {}


@dataclass(frozen=True)
class Gpu:
    """The GPU in use, the code that runs on it, and the stream that everything of ours is done on."""

    device: GpuDevice
    code: DeviceCode | None
    stream: int
    cudart: ctypes.CDLL


def choose_code(device: Device, gpu: GpuDevice, driver: tuple[int, int]) -> DeviceCode | None:
    """The best code for ``gpu``: machine code of the nearest architecture, else PTX. None where there are no kernels.

    Raises DeviceError when none fits, saying what the artifact holds.
    """
    if not device.codes:
        return None
    made = [
        code
        for code in device.codes
        if code.form == "cubin" and gpus.Gpu(code.architecture, 0).runs_on(gpu.architecture)
    ]
    if made:
        return max(made, key=lambda code: code.architecture)
    later = [code for code in device.codes if code.form == "ptx" and code.architecture <= gpu.architecture]
    toolkit = tuple(map(int, device.toolkit.split(".")))
    if later and driver >= toolkit:
        return max(later, key=lambda code: code.architecture)
    held = ", ".join(f"{code.form} for sm_{code.architecture}" for code in device.codes)
    wanted = f"sm_{gpu.architecture}"
    if later:
        raise DeviceError(
            f"{gpu.name} ({wanted}) could take the artifact's PTX, but that is of CUDA {device.toolkit} and the driver "
            f"of {driver[0]}.{driver[1]}",
            hint=f"install a newer driver, or compile the model with --target cuda:{wanted}",
        )
    raise DeviceError(
        f"the artifact has no code for {gpu.name} ({wanted}); it holds {held}",
        hint=f"compile the model with --target cuda:{wanted}",
    )


def open_gpu(artifact: OpenArtifact, driver: Driver, device: GpuDevice) -> Gpu:
    """Open the libraries that kernels are started through, and make the stream. Raises DeviceError, ArtifactError."""
    description = artifact.manifest.device
    assert description is not None
    code = choose_code(description, device, driver.version)
    with _lock:
        cudart = _open_cudart()
        if tvm_ffi.get_global_func(_PROBE, allow_missing=True) is None:
            _open_runtime(artifact, description)
        if device.index not in _streams:
            _streams[device.index] = _make_stream(cudart, device.index)
        return Gpu(device, code, _streams[device.index], cudart)


def load_kernels(artifact: OpenArtifact, code: DeviceCode) -> Any:
    """TVM's module of the artifact's kernels, made of the checked file's bytes; the driver takes them at first use."""
    description = artifact.manifest.device
    assert description is not None
    descriptor = artifact.descriptor(code.path)
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return function(_LOAD)(_serialized(description, code.form, data))


def _serialized(device: Device, form: str, data: bytes) -> bytes:
    """What TVM's CUDA module is saved as: its form, a map from names to signatures, the code.

    Texts and lists follow their length; a dtype is code, bits and lanes; a signature ends with a tag per argument.
    """
    parts = [_counted(form), struct.pack("<Q", len(device.kernels))]
    for kernel in device.kernels:
        parts += [_counted(kernel.name), _counted(kernel.name), struct.pack("<Q", len(kernel.arguments))]
        parts += [_packed_dtype(name) for name in kernel.arguments]
        parts += [struct.pack("<Q", len(kernel.launch)), *map(_counted, kernel.launch)]
        parts += [struct.pack("<Q", len(kernel.arguments)), bytes(4 * len(kernel.arguments))]
    return b"".join([*parts, _counted(data)])


def _packed_dtype(name: str) -> bytes:
    if name == "handle":
        return struct.pack("<BBH", _OPAQUE_HANDLE, 64, 1)
    dtype = tvm_ffi.dtype(name)
    return struct.pack("<BBH", dtype.type_code, dtype.bits, dtype.lanes)


def _counted(data: bytes | str) -> bytes:
    content = data.encode() if isinstance(data, str) else data
    return struct.pack("<Q", len(content)) + content


def _open_cudart() -> ctypes.CDLL:
    folder = wheel_folder()
    own = folder / "lib" / _CUDART if folder else None
    try:
        return ctypes.CDLL(str(own) if own and own.is_file() else _CUDART, ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise DeviceError(
            f"{_CUDART} can't be opened: {error}", hint="pip install nvidia-cuda-runtime (onnxkiln[cuda] brings it)"
        ) from error


def _open_runtime(artifact: OpenArtifact, device: Device) -> None:
    needed = artifact.manifest.created_by.tvm
    own = _installed_runtime() if installed("apache-tvm") == needed else None
    if own is None and device.runtime is None:
        raise ArtifactError(
            f"the artifact carries no {_RUNTIME}, and TVM {needed} is not installed",
            hint=f"pip install apache-tvm=={needed}, or compile the model without leaving the runtime out",
        )
    path = str(own) if own is not None else artifact.loadable(str(device.runtime))
    try:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise DeviceError(
            f"TVM's CUDA runtime can't be opened: {error}", hint="check the driver with nvidia-smi"
        ) from error


def _installed_runtime() -> Path | None:
    package = importlib.machinery.PathFinder.find_spec("tvm")
    path = Path(package.origin).parent / "lib" / _RUNTIME if package and package.origin else None
    return path if path is not None and path.is_file() else None


def _make_stream(cudart: ctypes.CDLL, index: int) -> int:
    """A stream that waits for the default stream and is waited for by it: TVM's own copies go through that one.

    One serves all sessions, as the memory that a finished kernel leaves is given to the next at once.
    """
    stream = ctypes.c_void_p()
    cudart.cudaGetErrorString.restype = ctypes.c_char_p
    for status in (cudart.cudaSetDevice(index), cudart.cudaStreamCreate(ctypes.byref(stream))):
        if status != 0:
            words = cudart.cudaGetErrorString(status).decode(errors="replace")
            raise DeviceError(f"GPU cuda:{index} can't be used: {words}", hint="nvidia-smi says whether it is well")
    return stream.value or 0
