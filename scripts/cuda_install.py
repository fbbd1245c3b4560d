#!/usr/bin/env python3
"""Compile for GPUs from a fresh environment with no CUDA toolkit, and read what comes out.

    scripts/cuda_install.py [--target cuda] [--keep FOLDER]

Makes a virtual environment, installs this checkout with [compile,cuda] from PyPI, and compiles a small model there,
with every folder that holds nvcc taken off PATH and no CUDA_PATH. Then the artifact's ELF and PTX files are read by
this script's own few lines, and the libraries that the compiler had open are listed: each must be the environment's.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import checkout

MODEL = checkout.ROOT / "tests" / "models" / "simple_model.onnx"
NAMES = {"cuda": ("sm_80", "sm_86", "sm_89", "sm_90")}
COMPILE = """
import sys
import onnxkiln
onnxkiln.compile(sys.argv[1], sys.argv[2], target=sys.argv[3])
found = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
print("\\n".join(sorted(path for path in found if ".so" in path)))
"""
_CUDA_MACHINE = 190


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if the artifact isn't what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cuda", help="as for onnxkiln compile (default: cuda)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to leave environment and artifact")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="onnxkiln-cuda-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        python = install(folder)
        environment = without_toolkit(dict(os.environ))
        libraries = compile_there(python, folder / "artifact", options.target, environment)
        problems = strangers(libraries, folder) + wrong_files(folder / "artifact" / "device", options.target)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def install(folder: Path) -> Path:
    """An environment with this checkout and its extras; its interpreter."""
    venv.create(folder / "environment", with_pip=True, clear=True)
    source = folder / "source"  # installing from the checkout itself would leave a build folder in it
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", ".typing", ".cache")
    shutil.copytree(checkout.ROOT, source, ignore=ignored, symlinks=True, dirs_exist_ok=True)
    python = folder / "environment" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{source}[compile,cuda]"], check=True)
    return python


def without_toolkit(environment: dict[str, str]) -> dict[str, str]:
    """The environment without what leads to a CUDA toolkit, or to other Python packages."""
    path = [place for place in environment["PATH"].split(os.pathsep) if not (Path(place) / "nvcc").exists()]
    kept = {key: value for key, value in environment.items() if not key.startswith(("CUDA", "LD_", "PYTHON", "NV"))}
    found = {**kept, "PATH": os.pathsep.join(path)}
    print(f"nvcc on PATH: {shutil.which('nvcc', path=found['PATH'])} (before: {shutil.which('nvcc')})")
    return found


def compile_there(python: Path, artifact: Path, target: str, environment: dict[str, str]) -> list[str]:
    """Compile the model, in a folder that holds nothing; the libraries that were open at the end."""
    shutil.rmtree(artifact, ignore_errors=True)
    done = subprocess.run(
        [python, "-c", COMPILE, MODEL, artifact, target],
        env=environment, cwd=artifact.parent, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def strangers(libraries: Sequence[str], folder: Path) -> list[str]:
    """Libraries of CUDA, or NVIDIA's, that don't come from the environment; and NVRTC if it was not open at all."""
    named = [path for path in libraries if re.search("cuda|nvrtc|nvidia|nvvm|cubin", path.removeprefix(str(folder)))]
    print("\n".join(f"open: {path}" for path in named))
    missing = [] if any("libnvrtc.so" in path for path in named) else ["NVRTC was not open"]
    return missing + [f"{path} is not the environment's" for path in named if not path.startswith(str(folder))]


def wrong_files(folder: Path, target: str) -> list[str]:
    """What is wrong with the files of device code; prints what they are."""
    wanted = NAMES.get(target) or tuple(target.partition(":")[2].split(","))
    problems = []
    for name in wanted:
        path = folder / f"{name}.cubin"
        found = architecture_of_elf(path.read_bytes()) if path.is_file() else "missing"
        print(f"{path.name}: {found}")
        if found != name:
            problems.append(f"{path.name} is {found}")
    newest = max(int(name.removeprefix("sm_")) for name in wanted)
    path = folder / f"compute_{newest}.ptx"
    text = path.read_text("ascii") if path.is_file() else ""
    entries = re.findall(r"^\.visible \.entry (\w+)\(", text, re.MULTILINE)
    aimed = re.search(r"^\.target (\w+)", text, re.MULTILINE)
    print(f"{path.name}: PTX for {aimed[1] if aimed else '?'}, kernels {', '.join(entries) or '-'}")
    if aimed is None or aimed[1] != f"sm_{newest}" or not entries:
        problems.append(f"{path.name} is no PTX of kernels for sm_{newest}")
    return problems


def architecture_of_elf(data: bytes) -> str:
    """The GPU that a file's machine code is for, by its ELF header; in words where it is something else."""
    if len(data) < 64 or data[:4] != b"\x7fELF":
        return "no ELF file"
    machine, flags = struct.unpack_from("<H", data, 18)[0], struct.unpack_from("<I", data, 48)[0]
    if machine != _CUDA_MACHINE:
        return f"ELF for machine {machine}"
    return f"sm_{flags >> 8 & 0xFF if data[8] >= 8 else flags & 0xFF}"


if __name__ == "__main__":
    sys.exit(main())
