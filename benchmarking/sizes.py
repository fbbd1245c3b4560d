"""What an engine takes on the disk beside Python and NumPy."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path

from ..artifacts.opening import OpenArtifact
from .engines import OURS, Engine

_ROOT = Path(__file__).resolve().parent.parent
_SHARED = {"numpy"}


def disk_bytes(engine: Engine, artifact: Path, model: Path | None) -> int:
    """The engine's installed packages, without NumPy, and what it runs: the artifact, or the model with its data."""
    if engine.name == OURS:
        return folder_bytes(artifact) + own_bytes() + installed_bytes(["apache-tvm-ffi"])
    assert model is not None
    with OpenArtifact(artifact) as opened:
        beside = [model.parent / location for location in opened.manifest.source.external]
    return _sum([model, *beside]) + installed_bytes([engine.distribution])


def folder_bytes(folder: Path) -> int:
    """All files below ``folder``."""
    return _sum(folder.rglob("*"))


def own_bytes() -> int:
    """This package's modules, as its wheel installs them."""
    folders = [path.parent for path in _ROOT.glob("*/__init__.py")]
    files = [*_ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*"))]
    return _sum(file for file in files if file.suffix in (".py", ".c"))


def installed_bytes(names: Iterable[str]) -> int:
    """The files that pip installed for these distributions and for what they require, each counted once."""
    total, pending, seen = 0, list(names), set(_SHARED)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or version of Python
        total += _sum(Path(str(file.locate())) for file in distribution.files or [])
        pending += [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in distribution.requires or [] if _needed(text)]
    return total


def _needed(requirement: str) -> bool:
    return re.search(r"\bextra\s*==", requirement) is None


def _sum(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
