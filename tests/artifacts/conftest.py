"""Artifacts that several tests use, each built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_artifacts


@pytest.fixture(scope="session")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x * w + x over 1024 floats; don't change it."""
    return tiny_artifacts.write(tiny_artifacts.scale_request(), tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="session")
def add(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """total = a + b, again = total + b over [rows, 4] floats; don't change it."""
    return tiny_artifacts.write(tiny_artifacts.add_request(), tmp_path_factory.mktemp("add"))


@pytest.fixture
def copy(scale: Path, tmp_path: Path) -> Callable[[], Path]:
    """A copy of ``scale`` to do bad things to."""

    def make() -> Path:
        return Path(shutil.copytree(scale, tmp_path / "copy"))

    return make
