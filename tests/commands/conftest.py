"""Artifacts that the command tests share, and a way to call the program in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny_artifacts

from onnxkiln.cli import main


class Outcome(NamedTuple):
    """What a call of the program came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def kiln(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``kiln("inspect", path)`` runs the program in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's own way out
            code = end.code if isinstance(end.code, int) else 1
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x * w + x over 1024 floats."""
    return tiny_artifacts.write(tiny_artifacts.scale_request(), tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="session")
def add(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """total = a + b, again = total + b over [rows, 4] floats, rows from 0 to 64."""
    return tiny_artifacts.write(tiny_artifacts.add_request(), tmp_path_factory.mktemp("add"))
