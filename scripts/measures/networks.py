"""Convolutional networks of many kinds against ONNX Runtime, which none of our choices was fitted to by name.

    scripts/measure.py networks [NAME | NAME:KIND | KIND ...]

KIND says which dims stay open: ``fixed`` none, ``batch`` the first, ``size`` the spatial ones too. Both run in this
process on one thread, turn by turn, on the same input; the ratio is of the shortest times, at most 1.10. Outputs must
agree as ``compare.py`` says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
import onnxruntime

import onnxkiln
from conv_networks.catalog import NETWORKS
from onnxkiln.compare import compare_all

Feeds = Mapping[str, np.ndarray[Any, Any]]
MOST, SECONDS, LEAST_ROUNDS, BLOCK = 1.10, 2.0, 6, 3


class Network(Protocol):
    """What networks of a catalog have; ``model`` takes one of ``kinds``."""

    @property
    def name(self) -> str: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    def model(self, kind: str) -> onnx.ModelProto: ...
    def feeds(self) -> Feeds: ...


N = TypeVar("N", bound=Network)


def measure(*names: str) -> list[dict[str, Any]]:
    """One item for each network and kind, printed as they come by ``show``."""
    return [measured(network, kind) for network, kind in chosen(names, NETWORKS)]


def chosen(names: Sequence[str], networks: Mapping[str, N]) -> list[tuple[N, str]]:
    """The networks and kinds that are meant by names: all of them by none."""
    every = [(network, kind) for network in networks.values() for kind in network.kinds]
    meant = [pair for pair in every if not names or {pair[0].name, pair[1], f"{pair[0].name}:{pair[1]}"} & set(names)]
    known = {name for one, kind in every for name in (one.name, kind, f"{one.name}:{kind}")}
    if set(names) - known:
        raise SystemExit(f"unknown: {', '.join(sorted(set(names) - known))}; there are {', '.join(networks)}")
    return meant


def measured(network: Network, kind: str) -> dict[str, Any]:
    """Times of both, in milliseconds, their ratio, and whether answers agree."""
    found: dict[str, Any] = {"name": network.name, "kind": kind, "passed": False}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        onnx.save(network.model(kind), path)
        start = time.perf_counter()
        try:
            artifact = onnxkiln.compile(path, Path(scratch) / "artifact", log="none")
        except Exception as error:  # the other networks are to be measured all the same
            return found | {"problem": f"does not compile: {str(error).strip().splitlines()[-1]}"}
        found["compile_seconds"] = time.perf_counter() - start
        feeds = network.feeds()
        with onnxkiln.load(artifact, threads=1) as session:
            runtime = _runtime(path)
            expected, ours = runtime.run(None, feeds), session.run(None, feeds)
            agreed = compare_all([output.name for output in runtime.get_outputs()], expected, ours)
            times = alternated([lambda: session.run(None, feeds), lambda: runtime.run(None, feeds)])
    problems = [comparison.problem for comparison in agreed if comparison.problem]
    ratio = times[0] / times[1]
    found |= {"ms": times[0], "runtime_ms": times[1], "ratio": ratio, "problem": "; ".join(problems)}
    return found | {"used": max(one.used for one in agreed), "passed": not problems and ratio <= MOST}


def _runtime(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def alternated(runs: Sequence[Callable[[], Any]], seconds: float = SECONDS) -> list[float]:
    """Milliseconds of the shortest call of each, in turns of ``BLOCK`` calls after one that isn't counted."""
    best = [float("inf")] * len(runs)
    rounds, end = 0, time.perf_counter() + seconds
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for index, run in enumerate(runs):
            run()
            for _ in range(BLOCK):
                start = time.perf_counter()
                run()
                best[index] = min(best[index], time.perf_counter() - start)
        rounds += 1
    return [value * 1e3 for value in best]


def line(item: dict[str, Any]) -> str:
    """One network in words."""
    name = f"{item['name']}:{item['kind']}"
    if "ratio" not in item:
        return f"{name:24} {item['problem']}"
    numbers = f"{item['ms']:9.2f} {item['runtime_ms']:9.2f} {item['ratio']:6.2f} {item['used']:8.2g}"
    verdict = item["problem"] or ("passed" if item["passed"] else f"over {MOST}")
    return f"{name:24} {numbers} {item['compile_seconds']:10.1f}  {verdict}"


def show(found: list[dict[str, Any]]) -> str:
    """A line for each network and kind, and the mean."""
    head = f"{'network':24} {'ms':>9} {'ORT ms':>9} {'ratio':>6} {'worst':>8} {'compile s':>10}"
    ratios = [item["ratio"] for item in found if "ratio" in item]
    mean = float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")
    passed = sum(item["passed"] for item in found)
    last = f"geometric mean {mean:.2f}; {passed} of {len(found)} passed (at most {MOST})"
    return "\n".join([head, *map(line, found), last])
