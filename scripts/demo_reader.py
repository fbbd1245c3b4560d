"""One engine reads one picture and says how long that takes; a process of its own, started by ``demo.py``.

    demo_reader.py artifact|onnxruntime PATH PICTURE CHARACTERS.json THREADS
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  (makes onnxkiln importable)
from line_reader import decode, picture_input

RUNS = 30


def _artifact(path: Path, threads: int) -> Callable[[dict[str, Any]], list[Any]]:
    import onnxkiln

    session = onnxkiln.load(path, threads=threads)
    return lambda feeds: session.run(None, feeds)


def _onnxruntime(path: Path, threads: int) -> Callable[[dict[str, Any]], list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def main() -> None:
    engine, path, picture, characters, threads = sys.argv[1:]
    start = time.perf_counter()
    run = {"artifact": _artifact, "onnxruntime": _onnxruntime}[engine](Path(path), int(threads))
    load_ms = 1000 * (time.perf_counter() - start)
    feeds = {"x": picture_input(Path(picture))}
    (probabilities,) = run(feeds)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run(feeds)
        times.append(1000 * (time.perf_counter() - start))
    if engine == "artifact" and {"tvm", "onnx"} & set(sys.modules):
        raise SystemExit("the compiler was imported to run an artifact")
    text = decode(probabilities, json.loads(Path(characters).read_text(encoding="utf-8")))
    print(json.dumps({"text": text, "ms": statistics.median(times), "load_ms": load_ms}))


if __name__ == "__main__":
    main()
