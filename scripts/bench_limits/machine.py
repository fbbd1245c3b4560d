"""Builds and runs ``limits.c``: what this machine can do at most."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("limits.c")
SMALLEST = 1 << 16
"""Bytes; less than that of weights says nothing about memory."""


@dataclass(frozen=True)
class MachineLimits:
    """Billions of fp32 operations a second, and of bytes read a second from a buffer of the size asked for."""

    gflops: float
    gbytes: float


def measure_limits(threads: int, nbytes: int, march: str = "native") -> MachineLimits:
    """Arithmetic and reading of ``nbytes`` over and over, with all ``threads`` at once. Takes under a second.

    ``march`` is the C compiler's name of the instruction set to use.
    """
    with tempfile.TemporaryDirectory(prefix="onnxkiln-limits-") as scratch:
        program = Path(scratch) / "limits"
        program.write_bytes(_program(march))
        program.chmod(0o755)
        size = max(nbytes, SMALLEST * threads)
        done = subprocess.run([program, str(threads), str(size)], check=True, capture_output=True, text=True)
    return MachineLimits(**json.loads(done.stdout))


@functools.cache
def _program(march: str) -> bytes:
    """The program, compiled for an instruction set. Raises SystemExit when there is no C compiler."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise SystemExit("measuring the machine's limits takes a C compiler: install gcc, or set CC")
    with tempfile.TemporaryDirectory(prefix="onnxkiln-limits-") as scratch:
        program = Path(scratch) / "limits"
        options = ["-O3", f"-march={march}", "-std=gnu11", "-pthread"]
        subprocess.run([compiler, *options, SOURCE, "-o", program], check=True)
        return program.read_bytes()
