"""Runs artifacts for GPUs where there is none: a pretended driver, and kernels compiled for the processor.

All is the real thing but three libraries: libcuda and libcudart are fakes (``gpu_emulator/fake_cuda.c``), and in place
of a kernel's machine code runs the same CUDA source, compiled by g++ (``gpu_emulator/cuda_on_cpu.h``). What it doesn't
show is what NVRTC's machine code computes on a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx_check import Case, assert_same, joined

import onnxkiln
from onnxkiln.artifacts.device import DeviceBuild
from onnxkiln.artifacts.manifest import Device, DeviceCode
from onnxkiln.gpus import DeviceKernel

HERE = Path(__file__).with_name("gpu_emulator")
NEEDS_CXX = pytest.mark.skipif(shutil.which("g++") is None, reason="kernels are run by compiling them with g++")

RUN = """
import sys
import numpy as np
import onnxkiln
feeds = [dict(np.load(path)) for path in sys.argv[2:]]
with onnxkiln.load(sys.argv[1]) as session:
    for path, feed in zip(sys.argv[2:], feeds):
        np.savez(path + ".out", *session.run(None, feed))
"""


@functools.cache
def fakes() -> Path:
    """A folder with the pretended libraries, laid out as LD_LIBRARY_PATH and PYTHONPATH want them."""
    folder = Path(tempfile.mkdtemp(prefix="onnxkiln-fake-cuda-"))
    versions = folder / "versions"
    versions.write_text("libcudart.so.13 { global: *; };")
    runtime = folder / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    runtime.parent.mkdir(parents=True)
    compile_ = ["gcc", "-shared", "-fPIC", "-w", "-O1", str(HERE / "fake_cuda.c"), "-ldl", "-lpthread"]
    subprocess.run([*compile_, "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")], check=True)
    named = ["-Wl,-soname,libcudart.so.13", f"-Wl,--version-script={versions}"]
    subprocess.run([*compile_, "-DCUDART", *named, "-o", str(runtime)], check=True)
    return folder


def environment(**settings: str) -> dict[str, str]:
    """For a child process that is to see the pretended GPUs."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("CUDA")}
    path = os.pathsep.join([str(fakes()), *sys.path])
    return {**found, "LD_LIBRARY_PATH": str(fakes()), "PYTHONPATH": path, **settings}


def build_kernels(source: str, folder: Path) -> Path:
    """Compile CUDA source for the processor, as a library with a function launch_KERNEL for each kernel."""
    text = re.sub(r"#include <(cuda\w*|math_constants)\.h>", "", source)
    text = re.sub(r"alignas\((\d+)\)", r"__attribute__((aligned(\1)))", text)  # g++ wants alignas elsewhere
    half = "#define EMULATE_HALF\n" if re.search(r"\bhalf\b", text) else ""
    launches = [_launch(match[1], match[2], text) for match in _DEFINITION.finditer(text)]
    whole = folder / "kernels.cpp"
    whole.write_text("\n".join([half + f'#include "{HERE / "cuda_on_cpu.h"}"', text, *launches]))
    library = folder / "kernels.so"
    options = ["-shared", "-fPIC", "-w", "-O1", "-fno-strict-aliasing", "-std=c++17", "-fpermissive"]
    files = [str(whole), str(HERE / "cuda_on_cpu.cpp")]
    done = subprocess.run(["g++", *options, *files, "-o", str(library)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return library


_DEFINITION = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\) \{')


def _launch(name: str, parameters: str, text: str) -> str:
    types = [re.sub(r"__restrict__|const\b", "", item).rsplit(None, 1)[0] for item in parameters.split(",")]
    arguments = ", ".join(f"*({kind}*)arguments[{index}]" for index, kind in enumerate(types))
    start = text.index(f" {name}(", text.index(f" {name}(") + 1)  # the definition, after the declaration
    end = text.find("\nextern", start)
    body = text[start : end if end > 0 else len(text)]
    gives_way = "true" if re.search(r"__sync|__shfl|kiln_product", body) else "false"
    return (
        f'extern "C" int count_{name} = {len(types)}; '
        f'extern "C" void launch_{name}(const unsigned* grid, const unsigned* block, unsigned, void** arguments) '
        f"{{ emulator::run(grid, block, {gives_way}, [=] {{ {name}({arguments}); }}); }}"
    )


def compile_emulated(
    model: onnx.ModelProto | Path, folder: Path, machine_code: bool = True, **options: object
) -> tuple[Path, Path]:
    """The artifact of a model for sm_90, and the library of its kernels for the processor.

    Without ``machine_code`` it holds the head of a cubin alone, which is all that the pretended driver reads.
    """
    path = model if isinstance(model, Path) else folder / "model.onnx"
    if not isinstance(model, Path):
        onnx.save(model, path)
    compile_device = contextlib.nullcontext() if machine_code else mock.patch("onnxkiln.compiler.compile_device", _head)
    with compile_device:
        made = onnxkiln.compile(path, folder / "artifact", target="cuda:sm_90", dump_ir=folder / "dump", **options)
    return made, build_kernels((folder / "dump" / "kernels.cu").read_text(), folder)


def _head(_source: str, kernels: Sequence[DeviceKernel], *_rest: object) -> DeviceBuild:
    data = b"\x7fELF\2\1".ljust(49, b"\0") + b"\x5a".ljust(15, b"\0")
    device = Device("13.0", (DeviceCode("device/sm_90.cubin", "cubin", 90),), tuple(kernels))
    return DeviceBuild(device, (("device/sm_90.cubin", data),))


def run_emulated(
    artifact: Path, kernels: Path, feeds: Sequence[Mapping[str, np.ndarray]], folder: Path, **settings: str
) -> list[list[np.ndarray]]:
    """Load the artifact in a process with a pretended GPU, and run it on each of ``feeds``."""
    paths = []
    for index, feed in enumerate(feeds):
        paths.append(str(folder / f"feed{index}.npz"))
        np.savez(paths[-1], **feed)
    found = environment(FAKE_CUDA_KERNELS=str(kernels), **settings)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(artifact), *paths], env=found, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = []
    for path in paths:
        with np.load(path + ".out.npz") as arrays:
            results.append([arrays[name] for name in arrays.files])
    return results


def check_emulated(
    cases: Sequence[Case], folder: Path, rtol: float = 1e-4, atol: float = 1e-5, opset: int = 20, **options: object
) -> Path:
    """Compile all cases as one model, run it with threads in both orders, and compare with the reference evaluator."""
    model, feeds, references = joined(cases, opset)
    artifact, kernels = compile_emulated(model, folder, machine_code=False, **options)
    for order in ({}, {"EMULATOR_REVERSE": "1"}):
        (found,) = run_emulated(artifact, kernels, [feeds], folder, **order)
        for output, result, reference in zip(model.graph.output, found, references, strict=True):
            case = cases[int(output.name.split("_")[0][1:])]
            assert_same(result, reference, f"{case}, {output.name}, {order}", rtol, atol)
    return artifact


def child(artifact: Path, code: str, device: str = "auto", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process with the pretended driver; its log is written beside the artifact."""
    log = artifact.parent / "log"
    log.write_text("")
    whole = f"import sys\nimport numpy as np\nimport onnxkiln\n{code}"
    found = environment(FAKE_CUDA_LOG=str(log), **settings)
    return subprocess.run(
        [sys.executable, "-c", whole, str(artifact), device], env=found, capture_output=True, text=True, check=False
    )


def calls(artifact: Path, name: str) -> list[str]:
    return [line for line in (artifact.parent / "log").read_text().splitlines() if line.startswith(name)]
