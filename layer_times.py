"""The time of single layers on this machine, in floating point and in integers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from .artifacts.random_feeds import random_feeds
from .artifacts.session import Session
from .errors import CompileError
from .quantization.single_layer import LayerKind, float_model, integer_model

ROUNDS = 7
SECONDS = 0.02
"""A round of one model: as many runs as fit, at least one."""

OpenedFile = Callable[[Path], AbstractContextManager[Session]]
"""Compiles an ONNX file for this machine and opens it."""


@dataclass(frozen=True)
class Times:
    """Milliseconds of one run: the fastest round's mean."""

    floating: float
    integer: float


def measure_times(
    layers: Mapping[str, tuple[LayerKind, tuple[int, ...]]],
    dynamic: bool,
    opened: OpenedFile,
    progress: Callable[[str, int, int], None],
) -> dict[str, Times]:
    """The times of each layer, given its kind and the shape of its data; equal layers are measured once."""
    distinct = dict.fromkeys(layers.values())
    found: dict[tuple[LayerKind, tuple[int, ...]], Times] = {}
    for done, (kind, shape) in enumerate(distinct):
        progress("time layers", done, len(distinct))
        found[kind, shape] = _measured(kind, shape, dynamic, opened)
    progress("time layers", len(distinct), len(distinct))
    return {name: found[key] for name, key in layers.items()}


def _measured(kind: LayerKind, shape: tuple[int, ...], dynamic: bool, opened: OpenedFile) -> Times:
    with tempfile.TemporaryDirectory(prefix="onnxkiln-layer-") as folder, ExitStack() as stack:
        sessions = []
        for name, model in (("float", float_model(kind, shape)), ("integer", integer_model(kind, shape, dynamic))):
            path = Path(folder) / f"{name}.onnx"
            ir.save(model, path)
            try:
                sessions.append(stack.enter_context(opened(path)))
            except CompileError as error:
                raise CompileError(f"a {kind.op_type} of {list(kind.weight)} on {list(shape)}: {error}") from error
        fastest = [min(times) for times in zip(*(_round(sessions) for _ in range(ROUNDS)))]
    return Times(*(1000 * seconds for seconds in fastest))


def _round(sessions: list[Session]) -> list[float]:
    """Mean seconds of a run of each, one after the other: what slows the machine down slows all."""
    means = []
    for session in sessions:
        feeds = random_feeds(session.contract, {})
        session.run(None, feeds)
        runs, start = 0, time.perf_counter()
        while not runs or time.perf_counter() - start < SECONDS:
            session.run(None, feeds)
            runs += 1
        means.append((time.perf_counter() - start) / runs)
    return means
