"""The inside of a worker process: obeys lines of JSON on its standard input with lines of JSON on its standard output.

Each line holds the keyword arguments of the handler, a function that takes and gives plain JSON values; the answer is
{"result": ...} or {"failed": words}. Nothing here imports TVM or NumPy: handlers do.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any, TextIO

_PR_SET_PDEATHSIG = 1


def serve(handler: str, parent: int, cpus: list[int] | None) -> None:
    """Answer until the input ends. ``handler`` is "module:function"; ``cpus`` are those to run on."""
    _die_with(parent)
    # Ctrl-C goes to every process of a terminal; ours are ended by their parent, once it has what it needs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cpus:
        os.sched_setaffinity(0, cpus)
    answers = _take_stdout()
    module, _, name = handler.partition(":")
    obey = getattr(importlib.import_module(module), name)
    _say(answers, {"result": "ready"})
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"result": obey(**json.loads(line))}
        except Exception as error:
            words = str(error).strip().splitlines() or ["without a word"]
            answer = {"failed": f"{type(error).__name__}: {words[-1][:500]}"}
        _say(answers, answer)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that comes about: nobody else would."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before the kernel was asked


def _take_stdout() -> TextIO:
    """The standard output for our answers alone; what a kernel prints goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()
