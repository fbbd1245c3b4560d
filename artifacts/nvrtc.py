"""CUDA source to machine code and PTX by NVRTC, NVIDIA's compiler in a library, out of its wheels on PyPI.

No driver, GPU or CUDA toolkit takes part: only the wheels' folder is looked at, so that the same versions give the
same bytes whatever else is installed.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

from ..errors import CompileError, ToolchainError
from ..gpus import Gpu
from .cuda_wheels import MAJOR, wheel_folder

_HINT = "pip install 'onnxkiln[cuda]'"
_FLAGS = ("-default-device", "--std=c++17")

PREAMBLE = """#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
#define inff INFINITY
"""
"""NVRTC includes no host headers, so these of <math.h> are missing; inff is TVM's infinity of 16-bit floats."""


def _folder() -> Path:
    folder = wheel_folder()
    if folder is None:
        raise ToolchainError(f"compiling for CUDA needs NVRTC {MAJOR}, which is not installed", hint=_HINT)
    return folder


@functools.cache
def _library() -> ctypes.CDLL:
    path = _folder() / "lib" / f"libnvrtc.so.{MAJOR}"
    if not path.is_file():
        raise ToolchainError(
            f"compiling for CUDA needs NVRTC {MAJOR}, which is not installed ({path.name} is missing)", hint=_HINT
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolchainError(f"NVRTC can't be opened: {error}", hint=_HINT) from error
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def include_folders() -> list[Path]:
    """The headers' folders. Raises ToolchainError when those of the CUDA runtime or of CCCL are missing."""
    include = _folder() / "include"
    folders = [include, include / "cccl"]
    for folder, header, wheel in zip(folders, ("cuda_fp16.h", "cuda/std/cstdint"), ("cuda-runtime", "cuda-cccl")):
        if not (folder / header).is_file():
            raise ToolchainError(f"compiling for CUDA needs the headers of nvidia-{wheel} ({header})", hint=_HINT)
    return folders


def version() -> tuple[int, int]:
    """NVRTC's version, which is that of the CUDA toolkit it belongs to."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
    return major.value, minor.value


def check_gpus(gpus: Sequence[Gpu]) -> None:
    """Raise ToolchainError unless NVRTC is there, whole, and knows every one of ``gpus``."""
    include_folders()
    count = ctypes.c_int()
    _check(_library().nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
    numbers = (ctypes.c_int * count.value)()
    _check(_library().nvrtcGetSupportedArchs(numbers), "nvrtcGetSupportedArchs")
    unknown = [gpu.name for gpu in gpus if gpu.number not in set(numbers)]
    if unknown:
        known = ", ".join(f"sm_{number}" for number in numbers)
        raise ToolchainError(
            f"NVRTC {'.'.join(map(str, version()))} makes no code for {', '.join(unknown)}",
            hint=f"it knows {known}; install another nvidia-cuda-nvrtc, or name other architectures",
        )


def compile_cubin(source: str, gpu: Gpu) -> bytes:
    """Machine code for ``gpu``, an ELF file. Raises CompileError with NVRTC's own words."""
    return _compile(source, gpu.name, "CUBIN")


def compile_ptx(source: str, gpu: Gpu) -> bytes:
    """PTX that the driver of ``gpu``, or of a later one, compiles when it is loaded. Raises CompileError."""
    return _compile(source, gpu.virtual_name, "PTX")


def _compile(source: str, architecture: str, kind: str) -> bytes:
    library = _library()
    program = ctypes.c_void_p()
    text = (PREAMBLE + source).encode()
    _check(
        library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None), "nvrtcCreateProgram"
    )
    try:
        options = [f"--gpu-architecture={architecture}", *_FLAGS, *(f"-I{folder}" for folder in include_folders())]
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), encoded)
        if status != 0:
            log = _get(library, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            raise CompileError(
                f"NVRTC can't compile the kernels for {architecture}: {_first_error(log)}",
                hint="report the model with this message",
            )
        return _get(library, program, kind)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _get(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"nvrtcGet{what}Size")
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, buffer), f"nvrtcGet{what}")
    return buffer.raw


def _first_error(log: str) -> str:
    lines = [line for line in log.splitlines() if "error" in line]
    return lines[0] if lines else log.strip() or "no message"


def _check(status: int, call: str) -> None:
    if status != 0:
        words = _library().nvrtcGetErrorString(status).decode()
        raise ToolchainError(f"{call} failed: {words}", hint="install nvidia-cuda-nvrtc again")
