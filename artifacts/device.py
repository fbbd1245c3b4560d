"""From kernels in CUDA source to the device code of an artifact: a cubin for each GPU asked for, PTX for later ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..errors import CompileError
from ..gpus import DeviceKernel, Gpu
from . import nvrtc
from .cubin import architecture_of_cubin, architecture_of_ptx, check_limits, kernels_of_cubin, kernels_of_ptx
from .manifest import Device, DeviceCode

FOLDER = "device"
_THREADS = 2
_HINT = "report the model; it is a defect of the compiler"


@dataclass(frozen=True)
class DeviceBuild:
    """``files`` pairs paths inside the artifact with their content; ``device`` describes them."""

    device: Device
    files: tuple[tuple[str, bytes], ...]


def compile_device(
    source: str,
    kernels: Sequence[DeviceKernel],
    gpus: Sequence[Gpu],
    progress: Callable[[int, int], None] | None = None,
) -> DeviceBuild:
    """Compile ``source`` for every one of ``gpus``, and to PTX for the newest of them.

    What comes out is read, not believed: each file must be for its architecture and hold every kernel, and none may
    take more than the GPU has. Raises CompileError and ToolchainError.
    """
    nvrtc.check_gpus(gpus)
    version = ".".join(map(str, nvrtc.version()))
    if not kernels:
        return DeviceBuild(Device(version, (), ()), ())
    newest = max(gpus, key=lambda gpu: gpu.number)
    jobs: list[tuple[Gpu, str]] = [(gpu, "cubin") for gpu in gpus] + [(newest, "ptx")]
    codes, files = [], []
    # NVRTC compiles several programs at once; the interpreter's lock is free meanwhile.
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(lambda job: _compile(source, kernels, *job), jobs)
        for done, (code, data) in enumerate(results, 1):
            codes.append(code)
            files.append((code.path, data))
            if progress:
                progress(done, len(jobs))
    return DeviceBuild(Device(version, tuple(codes), tuple(kernels)), tuple(files))


def _compile(source: str, kernels: Sequence[DeviceKernel], gpu: Gpu, form: str) -> tuple[DeviceCode, bytes]:
    if form == "ptx":
        data = nvrtc.compile_ptx(source, gpu).rstrip(b"\0") + b"\0"  # the driver reads it as a C string
        code = DeviceCode(f"{FOLDER}/{gpu.virtual_name}.ptx", form, architecture_of_ptx(data))
        found = kernels_of_ptx(data)
    else:
        data = nvrtc.compile_cubin(source, gpu)
        uses = kernels_of_cubin(data)
        code = DeviceCode(f"{FOLDER}/{gpu.name}.cubin", form, architecture_of_cubin(data), tuple(uses))
        found = [use.name for use in uses]
        check_limits(uses, {kernel.name: kernel.threads for kernel in kernels}, gpu)
    if code.architecture != gpu.number:
        raise CompileError(f"{code.path} is for sm_{code.architecture}, not for {gpu.name}", hint=_HINT)
    missing = sorted({kernel.name for kernel in kernels} - set(found))
    if missing:
        raise CompileError(f"{code.path} lacks the kernel(s) {', '.join(missing)}", hint=_HINT)
    return code, data
