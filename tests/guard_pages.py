"""Runs artifacts in a child process where every tensor touches a page that may not be read or written.

Inputs are laid so by ``fenced``; outputs and everything between by ``guard_pages.c``, which takes the place of the
allocator, with TVM's pool of blocks (which rounds sizes up) left out.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
_NAIVE = 1
"""TVM's allocator that has no pool."""


def fenced(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy whose last (or first) byte touches a page that may not be read or written."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page) + 2
    memory = mmap.mmap(-1, pages * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for first in (start, start + (pages - 1) * page):
        assert protect(first, page, 0) == 0
    offset = (pages - 1) * page - array.nbytes if at_end else page
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


@functools.cache
def guard_library() -> str:
    """The path of ``guard_pages.c`` as a shared library."""
    folder = tempfile.mkdtemp(prefix="onnxkiln-guard-")
    path = f"{folder}/guard_pages.so"
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-std=c11", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", path]
    subprocess.run(command, check=True)
    return path


def run_guarded(
    artifact: Path, feeds: Sequence[Mapping[str, np.ndarray]], folder: Path, at_end: bool = True
) -> list[list[np.ndarray] | str]:
    """Outputs for each set of feeds, or the words with which the artifact refused them; files go to ``folder``.

    Raises AssertionError when the process was killed, as it is by an access outside of a tensor.
    """
    for number, feed in enumerate(feeds):
        np.savez(folder / f"{number}.feeds.npz", **feed)  # type: ignore[arg-type]
    code = f"import sys; sys.path[:0] = {sys.path!r}; import guard_pages; guard_pages.serve(*sys.argv[1:])"
    environment = {**os.environ, "LD_PRELOAD": guard_library(), **({} if at_end else {"GUARD_BEFORE": "1"})}
    command = [sys.executable, "-c", code, str(artifact), str(folder), str(len(feeds)), "1" if at_end else ""]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    words = "-11 is an access outside of a tensor"
    assert child.returncode == 0, f"exit {child.returncode} ({words})\n{child.stderr[-3000:]}"
    return [_result(folder, number) for number in range(len(feeds))]


def _result(folder: Path, number: int) -> list[np.ndarray] | str:
    refused = folder / f"{number}.refused"
    if refused.exists():
        return refused.read_text()
    with np.load(folder / f"{number}.outputs.npz") as file:
        return [file[f"arr_{index}"] for index in range(len(file.files))]


def serve(artifact: str, folder: str, count: str, at_end: str) -> None:
    """In the child: run all feeds."""
    import onnxkiln
    from onnxkiln.artifacts import session as module

    module._POOLED = _NAIVE
    with onnxkiln.load(artifact, threads=2) as session:
        for number in range(int(count)):
            with np.load(f"{folder}/{number}.feeds.npz") as file:
                feeds = {name: fenced(array, bool(at_end)) for name, array in file.items()}
            try:
                outputs = session.run(None, feeds)
            except onnxkiln.KilnError as error:
                Path(f"{folder}/{number}.refused").write_text(str(error))
                continue
            np.savez(f"{folder}/{number}.outputs.npz", *outputs)
