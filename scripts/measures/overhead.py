"""What ``Session.run`` adds to the bare call of the compiled function, on a graph with nothing to do.

Less than 5 microseconds, and the whole call less than ONNX Runtime's.
"""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime

import onnxkiln

MOST_MORE_US, CALLS, ROUNDS = 5.0, 20_000, 9


def measure() -> dict[str, Any]:
    """Microseconds of a call, medians of rounds that alternate."""
    x = np.ones(4, np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "empty.onnx"
        onnx.save(_empty(), model)
        peer = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        with onnxkiln.load(onnxkiln.compile(model, Path(scratch) / "empty"), threads=1) as session:
            bare, weights = session._new_machine()["main"], session._weights
            calls: dict[str, Callable[[], Any]] = {
                "run": lambda: session.run(None, {"x": x}),
                "bare": lambda: bare(x, weights),
                "onnxruntime": lambda: peer.run(None, {"x": x}),
            }
            times: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(ROUNDS):
                for name, call in calls.items():
                    times[name].append(timeit.timeit(call, number=CALLS) / CALLS * 1e6)
    found: dict[str, Any] = {f"{name}_us": median(values) for name, values in times.items()}
    less = found["run_us"] < found["bare_us"] + MOST_MORE_US and found["run_us"] < found["onnxruntime_us"]
    return {**found, "passed": less}


def _empty() -> onnx.ModelProto:
    x, y = (oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    graph = oh.make_graph([oh.make_node("Identity", ["x"], ["y"])], "empty", [x], [y])
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=8)


def show(found: dict[str, Any]) -> str:
    """In words."""
    return (
        f"an empty graph: run {found['run_us']:.2f} us, the bare call {found['bare_us']:.2f} us (at most "
        f"{MOST_MORE_US:.0f} us less), ONNX Runtime {found['onnxruntime_us']:.2f} us"
    )
