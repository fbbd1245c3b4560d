"""Worker processes that outlive what they are asked for, and are replaced when they don't.

A kernel under trial may hang, or take its process with it; so each runs in a process of its own kind, never in this
one.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent.parent

# The package lies where it does in this process, which may be a checkout of any name: not on any path.
_BOOT = """
import importlib.util, json, sys
job = json.loads(sys.argv[1])
sys.path[:] = job["path"]
spec = importlib.util.spec_from_file_location(
    job["name"], job["package"] + "/__init__.py", submodule_search_locations=[job["package"]]
)
sys.modules[job["name"]] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
importlib.import_module(job["name"] + ".tuning.worker").serve(job["handler"], job["parent"], job["cpus"])
"""

START_SECONDS = 120.0
"""A worker imports TVM or NumPy first, which a busy machine may take long over."""


class WorkerFailed(Exception):
    """A request came to nothing; ``status`` is the log's word for how: "timeout", "crash" or "error"."""

    def __init__(self, status: str, words: str):
        super().__init__(words)
        self.status = status


class Worker:
    """One process that serves a ``handler`` ("module:function"); started by the first request, again after its death.

    ``cpus`` are those it may run on (None: all).
    """

    def __init__(self, handler: str, cpus: Sequence[int] | None = None):
        self.handler = handler
        self.starts = 0
        self._cpus = None if cpus is None else list(cpus)
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def call(self, seconds: float, /, **arguments: Any) -> Any:
        """The handler's answer. Raises WorkerFailed: it took longer than ``seconds``, died, or raised an error."""
        process = self.start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(arguments).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer(seconds)

    def start(self) -> subprocess.Popen[bytes]:
        """The process, running and ready."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        job = {
            "name": __name__.partition(".")[0], "package": str(_PACKAGE), "path": sys.path, "handler": self.handler,
            "parent": os.getpid(), "cpus": self._cpus,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.starts += 1
        self._unread = b""
        self._answer(START_SECONDS)
        return self._process

    def stop(self) -> None:
        """End the process now, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _answer(self, seconds: float) -> Any:
        assert self._process is not None and self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.stop()
                raise WorkerFailed("timeout", f"no answer in {seconds:.1f} s")
            data = os.read(pipe, 1 << 16)
            if not data:
                raise self._died()
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "failed" in answer:
            raise WorkerFailed("error", answer["failed"])
        return answer["result"]

    def _died(self) -> WorkerFailed:
        assert self._process is not None
        code = self._process.wait()
        self.stop()
        return WorkerFailed("crash", f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
