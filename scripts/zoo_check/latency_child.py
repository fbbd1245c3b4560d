"""Times an artifact and ONNX Runtime side by side on one case.

    python -m zoo_check.latency_child ARTIFACT MODEL.onnx FEEDS.npz THREADS

Blocks of calls alternate, with a pause and a warm call before each: right after its turn, a runtime's worker threads
still spin and would slow the other. Prints the median of all calls of each side, in ms.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

import checkout  # noqa: F401  (makes onnxkiln importable)
import onnxkiln

ROUNDS = 5
PAUSE_S = 0.05
BLOCK_S = 0.4
MOST_CALLS = 200


def main() -> None:
    artifact, model, feeds_file, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    with np.load(feeds_file) as file:
        feeds = dict(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    peer = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    ours = onnxkiln.load(artifact, threads=threads)
    times: dict[str, list[float]] = {"ours": [], "onnxruntime": []}
    for _ in range(ROUNDS):
        times["ours"] += _block(lambda: ours.run(None, feeds))
        times["onnxruntime"] += _block(lambda: peer.run(None, feeds))
    print(json.dumps({side: statistics.median(values) for side, values in times.items()}))


def _block(run: Callable[[], Any]) -> list[float]:
    """Milliseconds of each call, as many as fit into a block, at least two."""
    time.sleep(PAUSE_S)
    run()
    times: list[float] = []
    end = time.perf_counter() + BLOCK_S
    while len(times) < 2 or (time.perf_counter() < end and len(times) < MOST_CALLS):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return times


if __name__ == "__main__":
    main()
