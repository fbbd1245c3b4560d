"""One small artifact, the ONNX model that computes the same, and an input of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts


@pytest.fixture(scope="session")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x * w + x over 1024 floats; don't change it."""
    return tiny_artifacts.write(tiny_artifacts.scale_request(), tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as ONNX."""
    return tiny_artifacts.scale_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    """An input of both."""
    return {"x": np.random.default_rng(0).standard_normal(1024, dtype=np.float32)}
