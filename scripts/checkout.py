"""Importing this makes ``onnxkiln`` the checkout that this script lies in, installed or not.

The repository's root is the package itself, whatever its folder is called, so a path on ``sys.path`` is not enough.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _register() -> None:
    spec = importlib.util.spec_from_file_location(
        "onnxkiln", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["onnxkiln"] = module
    spec.loader.exec_module(module)


if "onnxkiln" not in sys.modules:
    _register()
