"""The child process that holds one engine. Run by its path, with a job as JSON:

    python -P engine_process.py '{"engine": "onnxruntime", "model": ..., ...}'

It imports and opens the engine, runs it once, prints how long each took, and then obeys lines of JSON on its standard
input: {"do": "run"}, {"do": "block", "seconds": S}, {"do": "memory"}, {"do": "save", "path": P}. Each is answered by a
line of JSON, the last one being {"failed": words} if anything goes wrong. Nothing but the standard library is imported
before the clock starts, NumPy neither.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

FEWEST_CALLS, MOST_CALLS = 2, 5000
"""Of one block."""


def main() -> None:
    job = json.loads(sys.argv[1])
    answers = _take_stdout()
    try:
        _serve(job, answers)
    except Exception as error:
        # Errors of this package have their words without the hint in .message.
        words = getattr(error, "message", str(error)).strip() or "without a word"
        _say(answers, {"failed": f"{type(error).__name__}: {words.splitlines()[0]}"})


def _serve(job: dict[str, Any], answers: TextIO) -> None:
    engine = _load_file(Path(__file__).parent / "engines" / f"{job['engine']}_engine.py")
    start = time.perf_counter()
    engine.import_library()
    imported = time.perf_counter()
    run = engine.open_session(job)
    opened = time.perf_counter()
    import numpy as np

    with np.load(job["feeds"]) as file:
        feeds = dict(file)
    before = time.perf_counter()
    outputs = run(feeds)
    first = time.perf_counter() - before
    _say(answers, {"import_s": imported - start, "open_s": opened - imported, "first_s": first})
    for line in sys.stdin:
        _say(answers, _obey(json.loads(line), lambda: run(feeds), outputs))


def _obey(command: dict[str, Any], run: Callable[[], Any], outputs: list[Any]) -> Any:
    if command["do"] == "block":
        return {"seconds": _block(run, command["seconds"])}
    if command["do"] == "memory":
        return _memory()
    if command["do"] == "save":
        import numpy as np

        np.savez(command["path"], *outputs)
    else:
        run()
    return {}


def _block(run: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call, as many as fit, after one that warms."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or (time.perf_counter() < end and len(times) < MOST_CALLS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _memory() -> dict[str, int]:
    """This process's share of physical memory now (pages in common count by their share), and its peak resident."""
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {"pss": _kilobytes(rollup, "Pss:"), "peak": _kilobytes(status, "VmHWM:")}


def _kilobytes(text: str, key: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def _take_stdout() -> TextIO:
    """The standard output for our answers alone; what an engine prints goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
