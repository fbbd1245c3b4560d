"""Where the nvidia-cuda-* wheels of PyPI put their files: NVRTC and headers to compile with, libcudart to run with."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

MAJOR = 13
"""Of CUDA: that of the libcudart which TVM's runtime library was linked with."""


def wheel_folder() -> Path | None:
    """The folder that the wheels share, or None when none is installed."""
    package = importlib.machinery.PathFinder.find_spec("nvidia")
    for place in (package.submodule_search_locations or []) if package else []:
        if (Path(place) / f"cu{MAJOR}").is_dir():
            return Path(place) / f"cu{MAJOR}"
    return None
