"""What a deployment takes on the disk beside the weights, Python and NumPy: under 15 MB.

A folder is made of the artifact, this package's loader, and apache-tvm-ffi without what is only there to build
extensions (headers and sources). Then the artifact is run from that folder alone.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import checkout
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.benchmarking.sizes import folder_bytes, installed_bytes, own_bytes

from .models import prepare

MOST_BYTES = 15_000_000
LOADER = ("__init__.py", "contract.py", "errors.py", "gpus.py", "targets.py", "versions.py", "artifacts")
BUILD_ONLY = ("3rdparty", "cython", "include", "share", "src", "stub", "testing")
"""Of apache-tvm-ffi. (The library of its tests stays: the Python module is linked against it.)"""

_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyi", "*.c", "CMakeLists.txt", *BUILD_ONLY)

RUN = """
import json, sys
folder, numpy, feeds = sys.argv[1:]
sys.path[:0] = [folder, numpy]
import numpy as np
import onnxkiln
import tvm_ffi
assert onnxkiln.__file__.startswith(folder) and tvm_ffi.__file__.startswith(folder)
with np.load(feeds) as file, onnxkiln.load(folder + "/artifact") as session:
    outputs = session.run(None, dict(file))
assert "tvm" not in sys.modules and all(np.isfinite(output).all() for output in outputs)
"""


def measure(name: str = "ppocr_rec", keep: Path | None = None) -> dict[str, Any]:
    """Bytes of the parts, after a run from the folder; ``keep`` is a new folder for it."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(name, Path(scratch))
        folder = keep or Path(scratch) / "deployment"
        deploy(prepared.artifact, folder)
        _run(folder, Path(prepared.job.feeds), Path(scratch))
        with OpenArtifact(folder / "artifact") as opened:
            weights = opened.manifest.file(opened.manifest.weights.path).size
        total = folder_bytes(folder) - weights
        parts = {path.name: folder_bytes(path) if path.is_dir() else path.stat().st_size for path in folder.iterdir()}
        parts["artifact"] -= weights
        # What pip leaves beside an artifact: all of onnxkiln, and of tvm-ffi, with compiled bytecode.
        as_installed = folder_bytes(prepared.artifact) - weights + own_bytes() + installed_bytes(["apache-tvm-ffi"])
    return {
        "model": name,
        "bytes": total,
        "parts": parts,
        "as_installed": as_installed,
        "weights": weights,
        "passed": total < MOST_BYTES,
    }


def deploy(artifact: Path, folder: Path) -> None:
    """Write ``folder``: onnxkiln (its loader), tvm_ffi, typing_extensions and artifact."""
    for name in LOADER:
        target = folder / "onnxkiln" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = checkout.ROOT / name
        shutil.copytree(source, target, ignore=_IGNORED) if source.is_dir() else shutil.copyfile(source, target)
    shutil.copytree(_place("tvm_ffi").parent, folder / "tvm_ffi", ignore=_IGNORED)
    shutil.copyfile(_place("typing_extensions"), folder / "typing_extensions.py")
    shutil.copytree(artifact, folder / "artifact")


def _place(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


def _run(folder: Path, feeds: Path, scratch: Path) -> None:
    """In an interpreter without site-packages, with NumPy alone beside the folder."""
    numpy = scratch / "numpy only"
    numpy.mkdir()
    package = _place("numpy").parent
    for path in (package, package.with_name("numpy.libs")):
        if path.exists():
            (numpy / path.name).symlink_to(path)
    command = [sys.executable, "-I", "-S", "-B", "-c", RUN, str(folder.resolve()), str(numpy), str(feeds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the deployment does not run:\n{done.stderr}")


def show(found: dict[str, Any]) -> str:
    """In words."""
    parts = ", ".join(f"{name} {size / 1e6:.2f}" for name, size in sorted(found["parts"].items()))
    return (
        f"{found['model']}, run from a folder of its own: {found['bytes'] / 1e6:.2f} MB ({parts}; limit "
        f"{MOST_BYTES / 1e6:.0f}) beside {found['weights'] / 1e6:.1f} MB of weights. As pip installs it, with headers, "
        f"sources and bytecode: {found['as_installed'] / 1e6:.2f} MB"
    )


