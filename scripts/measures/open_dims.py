"""One artifact with open dims against artifacts compiled for one size each: what does it cost that sizes stay open?

Both run in this process on one thread, turn by turn; the ratio is of the shortest times. At most 1.15 at every size.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxkiln
from bench_models.catalog import BenchModel, load_models
from onnxkiln.artifacts.session import Session
from zoo_check.cases import Feeds, Input, listed_sizes, random_feeds

MOST, SECONDS, LEAST_ROUNDS = 1.15, 2.0, 10

Sizes = Mapping[str, Sequence[int]]
PROMISED: dict[str, Sizes] = {
    "minilm_l6": {"batch": (1, 3, 8), "seq": (128, 61, 16)},
    "ppocr_rec": {"x:3": (320, 197, 640)},
    "ppocr_det": {"x:2": (640, 320, 416), "x:3": (640, 480, 352)},
}
"""Sizes by dim: its name, or that of an input and the axis. The sizes at one position belong together.

ppocr_det adds what it has halved five times to what it enlarged again: it takes multiples of 32 alone, no primes."""


def measure(*names: str) -> list[dict[str, Any]]:
    """The promised models, or those named: milliseconds of both at each of three sizes."""
    return [_measure(model, PROMISED[model.name]) for model in load_models(names or tuple(PROMISED))]


def _measure(model: BenchModel, sizes: Sizes) -> dict[str, Any]:
    path = model.path()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = onnxkiln.compile(path, folder / "open")
        with onnxkiln.load(artifact, threads=1) as session:
            for position in range(len(next(iter(sizes.values())))):
                chosen = {dim: values[position] for dim, values in sizes.items()}
                feeds = _feeds(model, session, chosen)
                shapes = {name: list(array.shape) for name, array in feeds.items()}
                fixed_artifact = onnxkiln.compile(path, folder / f"fixed{position}", shapes=shapes)
                with onnxkiln.load(fixed_artifact, threads=1) as fixed:
                    open_ms, fixed_ms = alternated(session, fixed, feeds)
                found.append({"sizes": chosen, "open_ms": open_ms, "fixed_ms": fixed_ms, "ratio": open_ms / fixed_ms})
    return {"model": model.name, "sizes": found, "passed": all(item["ratio"] <= MOST for item in found)}


def _feeds(model: BenchModel, session: Session, chosen: Mapping[str, int]) -> Feeds:
    inputs = [Input(spec.name, spec.dtype, spec.shape) for spec in session.contract.inputs]
    sizes = listed_sizes(model.listed, inputs)
    for dim, size in chosen.items():
        name, _, axis = dim.partition(":")
        named = next((item.shape[int(axis)] for item in inputs if item.name == name), None) if axis else dim
        if named not in sizes:
            raise SystemExit(f"{model.name} has no open dim {dim}; there are {', '.join(sizes)}")
        sizes[str(named)] = size
    return random_feeds(model.listed, inputs, sizes, seed=0)


def alternated(one: Session, other: Session, feeds: Feeds, seconds: float = SECONDS) -> tuple[float, float]:
    """Milliseconds of the shortest run of each."""
    best = [float("inf")] * 2
    rounds, end = 0, time.perf_counter() + seconds
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for index, session in enumerate((one, other)):
            start = time.perf_counter()
            session.run(None, feeds)
            best[index] = min(best[index], time.perf_counter() - start)
        rounds += 1
    return best[0] * 1e3, best[1] * 1e3


def show(found: list[dict[str, Any]]) -> str:
    """In words, a line for each size."""
    lines = []
    for model in found:
        for item in model["sizes"]:
            sizes = " ".join(f"{dim}={size}" for dim, size in item["sizes"].items())
            times = f"open {item['open_ms']:.2f} ms, fixed {item['fixed_ms']:.2f} ms"
            lines.append(f"{model['model']} at {sizes}: {times}, ratio {item['ratio']:.3f} (at most {MOST})")
    return "\n".join(lines)
