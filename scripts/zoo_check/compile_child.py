"""Compiles one model; says how long that took, how much memory it needed, and which functions stay scalar loops.

    python -m zoo_check.compile_child MODEL.onnx ARTIFACT LEVEL SHAPES
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import checkout  # noqa: F401  (makes onnxkiln importable)
import onnxkiln
from onnxkiln.artifacts.opening import OpenArtifact


def main() -> None:
    model, artifact, level, shapes = sys.argv[1:]
    start = time.perf_counter()
    try:
        onnxkiln.compile(model, artifact, level=level, shapes=json.loads(shapes), force=True)
    except onnxkiln.KilnError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    seconds = time.perf_counter() - start
    with OpenArtifact(Path(artifact)) as opened:
        scalar = [kernel.name for kernel in opened.manifest.kernels if not kernel.vectorized]
    print(json.dumps({"seconds": seconds, "peak_bytes": _peak_bytes(), "scalar": scalar}))


def _peak_bytes() -> int:
    """The most memory this process had resident; getrusage would count the parent's before exec, this does not."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0


if __name__ == "__main__":
    main()
