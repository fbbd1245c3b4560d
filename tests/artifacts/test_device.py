"""Device code is made without a GPU, driver or toolkit, and read back: architecture, kernels, what they take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onnxkiln.artifacts import cubin, cuda_wheels, nvrtc
from onnxkiln.artifacts.device import compile_device
from onnxkiln.errors import CompileError, ToolchainError
from onnxkiln.gpus import GPUS, DeviceKernel

SOURCE = """
extern "C" __global__ void __launch_bounds__(1024) spill(float* a, int n) {
  float v[64];
  for (int i = 0; i < 64; i++) v[i] = a[i * n + threadIdx.x];
  __syncthreads();
  for (int j = 0; j < n; j++) { for (int i = 0; i < 64; i++) v[i] = v[i] * v[(i + 7) & 63] + a[j]; }
  for (int i = 0; i < 64; i++) a[i * n + threadIdx.x] = v[i];
}
extern "C" __global__ void shared(float* a) {
  __shared__ float s[1000];
  s[threadIdx.x] = a[threadIdx.x];
  __syncthreads();
  a[threadIdx.x] = s[999 - threadIdx.x] + INFINITY;
}
"""
KERNELS = [
    DeviceKernel("spill", ("handle", "int32"), ("threadIdx.x",), 1024),
    DeviceKernel("shared", ("handle",), ("threadIdx.x",), 1000),
]


@pytest.fixture(scope="module")
def built():
    return compile_device(SOURCE, KERNELS, [GPUS["sm_80"], GPUS["sm_90"]])


def test_each_architecture_gets_machine_code_and_the_newest_ptx(built) -> None:
    assert [(code.path, code.form, code.architecture) for code in built.device.codes] == [
        ("device/sm_80.cubin", "cubin", 80),
        ("device/sm_90.cubin", "cubin", 90),
        ("device/compute_90.ptx", "ptx", 90),
    ]
    files = dict(built.files)
    assert files["device/sm_80.cubin"][:4] == files["device/sm_90.cubin"][:4] == b"\x7fELF"
    assert b".target sm_90" in files["device/compute_90.ptx"]
    assert cubin.kernels_of_ptx(files["device/compute_90.ptx"]) == ["shared", "spill"]


def test_registers_shared_memory_and_spills_are_read(built) -> None:
    """1024 threads share 65536 registers: 64 values don't fit into a thread's 64, and the stack shows it."""
    for code in built.device.codes[:2]:
        shared, spill = code.uses
        assert (shared.name, shared.shared_bytes, shared.stack_bytes) == ("shared", 4000, 0)
        assert 0 < shared.registers < 32
        assert (spill.registers, spill.shared_bytes) == (64, 0)
        assert spill.stack_bytes >= 64 * 4


def test_the_same_source_gives_the_same_bytes(built) -> None:
    assert compile_device(SOURCE, KERNELS, [GPUS["sm_80"], GPUS["sm_90"]]) == built


def test_a_kernel_that_takes_too_much_is_refused() -> None:
    source = 'extern "C" __global__ void big(float* a) { extern __shared__ float s[]; s[threadIdx.x] = *a; *a = s[5]; }'
    use = cubin.kernels_of_cubin(nvrtc.compile_cubin(source, GPUS["sm_86"]))
    assert [one.shared_bytes for one in use] == [0], "asked for at the start, not declared"
    wide = [cubin.KernelUse("big", 128, 120_000, 0)]
    with pytest.raises(CompileError, match="sm_86: big needs 120000 bytes of shared memory of 101376"):
        cubin.check_limits(wide, {"big": 256}, GPUS["sm_86"])
    cubin.check_limits(wide, {"big": 256}, GPUS["sm_80"])
    with pytest.raises(CompileError, match="big needs 131072 registers a block of 65536"):
        cubin.check_limits(wide, {"big": 1024}, GPUS["sm_80"])


def test_too_much_declared_shared_memory_is_a_compile_error() -> None:
    source = """extern "C" __global__ void big(float* a) {
      __shared__ float s[20000];
      s[threadIdx.x] = a[threadIdx.x];
      __syncthreads();
      a[0] = s[threadIdx.x * 7 % 20000];
    }"""
    with pytest.raises(CompileError, match="sm_80"):
        compile_device(source, [DeviceKernel("big", ("handle",), ("threadIdx.x",), 32)], [GPUS["sm_80"]])


def test_a_kernel_that_is_missing_is_an_error() -> None:
    absent = DeviceKernel("absent", (), (), 1)
    with pytest.raises(CompileError, match=r"device/sm_80\.cubin lacks the kernel\(s\) absent"):
        compile_device(SOURCE, [*KERNELS, absent], [GPUS["sm_80"]])


def test_a_source_that_does_not_compile_says_so() -> None:
    with pytest.raises(CompileError, match=r'sm_80.*kernels.cu.*"oops" is undefined'):
        nvrtc.compile_cubin('extern "C" __global__ void f(float* a) { a[0] = oops; }', GPUS["sm_80"])


def test_what_is_no_device_code_is_not_taken_for_it() -> None:
    for data in (b"", b"\x7fELF", Path(sys.executable).read_bytes()[:4096], b'extern "C" __global__ void f() {}'):
        with pytest.raises(CompileError, match="no ELF file with CUDA machine code"):
            cubin.architecture_of_cubin(data)
        with pytest.raises(CompileError, match="no PTX"):
            cubin.architecture_of_ptx(data)


def test_without_the_wheels_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "wheel_folder", lambda: None)
    with pytest.raises(ToolchainError, match=r"NVRTC 13, which is not installed\n.*onnxkiln\[cuda\]"):
        nvrtc.check_gpus([GPUS["sm_80"]])


def test_headers_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvrtc, "wheel_folder", lambda: tmp_path)
    with pytest.raises(ToolchainError, match=r"headers of nvidia-cuda-runtime \(cuda_fp16\.h\)"):
        nvrtc.check_gpus([GPUS["sm_80"]])


def test_no_toolkit_takes_part() -> None:
    """With nothing on PATH, and a CUDA_PATH that leads nowhere, with no library opened but the wheel's."""
    code = """
from onnxkiln.artifacts import nvrtc
from onnxkiln.gpus import GPUS
assert nvrtc.compile_cubin('extern "C" __global__ void f(float* a) { *a = 1; }', GPUS["sm_90"])[:4] == b"\\x7fELF"
mapped = [line for line in open("/proc/self/maps") if "nvrtc" in line or "cuda" in line]
print(*{line.split(maxsplit=5)[-1].strip() for line in mapped}, sep="\\n")
"""
    environment = {"PATH": "/nonexistent", "CUDA_PATH": "/nonexistent", "PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout
    folder = str(cuda_wheels.wheel_folder())
    assert found and all(line.startswith(folder) for line in found.splitlines())
