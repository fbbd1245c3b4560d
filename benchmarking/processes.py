"""Starting an engine in a fresh process, and asking it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path(__file__).with_name("engine_process.py")
PATIENCE_S = 300.0
"""For one answer; an engine that takes longer has failed."""


@dataclass(frozen=True)
class Job:
    """What an engine needs to know.

    ``artifact`` and ``model`` are paths (the model of peers), ``feeds`` an .npz file of the inputs; ``feeds_of`` has
    their dtypes and shapes, ``dims`` those that the artifact fixes (None: open).
    """

    artifact: str
    model: str | None
    feeds: str
    threads: int
    feeds_of: Mapping[str, tuple[str, Sequence[int]]]
    dims: Mapping[str, Sequence[int | None]]


class EngineFailed(Exception):
    """An engine can't do this model; the message is its last words."""


class EngineProcess:
    """A fresh process with one engine, opened and run once; a context manager that ends it."""

    def __init__(self, engine: str, job: Job):
        """Raises EngineFailed."""
        command = [sys.executable, "-P", str(PROGRAM), json.dumps({"engine": engine, **asdict(job)})]
        environment = {**os.environ, "TVM_NUM_THREADS": str(job.threads)}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (close does it)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )
        try:
            self.started: dict[str, float] = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def ask(self, do: str, **details: Any) -> Any:
        """Let it do something (see ``engine_process``); its answer. Raises EngineFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineFailed(self._last_words()) from None
        return self._answer()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line, end = b"", time.monotonic() + PATIENCE_S
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise EngineFailed(f"gave no answer for {PATIENCE_S:.0f} s")
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                raise EngineFailed(self._last_words())
            line += more
        answer = json.loads(line)
        if "failed" in answer:
            raise EngineFailed(answer["failed"][:500])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        words = lines[-1] if lines else "without a word"
        return words[:300] if code >= 0 else f"killed by signal {-code}: {words[:300]}"
