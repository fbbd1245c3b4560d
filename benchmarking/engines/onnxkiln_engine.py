"""This package, by itself: neither TVM nor ONNX may come into its process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]


def import_library() -> None:
    """Import the package that this file lies in, whether or not one is installed, with all that loading needs."""
    spec = importlib.util.spec_from_file_location(
        "onnxkiln", _ROOT / "__init__.py", submodule_search_locations=[str(_ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["onnxkiln"] = module
    spec.loader.exec_module(module)
    importlib.import_module("onnxkiln.artifacts.loader")


def open_session(job: dict[str, Any]) -> Callable[[dict[str, Any]], list[Any]]:
    """Load the artifact, digests of all its files checked."""
    session = sys.modules["onnxkiln"].load(job["artifact"], threads=job["threads"])
    if {"tvm", "onnx"} & set(sys.modules):
        raise RuntimeError("the compiler was imported to run an artifact")
    return lambda feeds: session.run(None, feeds)
