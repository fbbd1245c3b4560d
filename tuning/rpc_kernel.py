"""Runs in a worker: one kernel, timed on a server of TVM's RPC, its result compared with the default's.

As ``run_kernel``, as far as a server allows that knows nothing of this package: the caches are flushed of as many
bytes as the model's weights take, and what a kernel writes past its result's end goes unseen.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tvm

from .rpc import Rpc, RpcLost, remote
from .run_kernel import _make, agree

PLACEMENTS = 5
"""New sets of arrays, each with a latency."""

CALLS = 3


def measure(
    rpc: dict[str, Any],
    library: str,
    reference: str,
    arguments: Sequence[Sequence[dict[str, Any]]],
    scales: Sequence[float],
    results: int,
    cold_bytes: int,
    slow: float,
    **_: Any,
) -> dict[str, Any]:
    """Takes and gives what ``run_kernel.measure`` does, and which servers to ask. Raises RpcLost."""
    session = remote(Rpc(**rpc))
    with _lost_as_such():
        kernel = _loaded(session, library, "kernel.so")
        right = kernel if library == reference else _loaded(session, reference, "reference.so")
        totals = [0.0] * PLACEMENTS
        for one, scale in zip(arguments, scales, strict=True):
            data = _make(one, results)
            got, want = _results(session, kernel, data, results), _results(session, right, data, results)
            for number, (its, expected) in enumerate(zip(got, want, strict=True)):
                if not agree(its, expected):
                    return {"status": "wrong", "words": f"result {number} is not the default schedule's"}
            for placement in range(PLACEMENTS):
                evaluate = kernel.time_evaluator("main", session.cpu(0), number=1, repeat=CALLS,
                                                 cache_flush_bytes=cold_bytes)  # fmt: skip
                seconds = min(evaluate(*_on(session, data)).results)
                totals[placement] += max(seconds, 1e-9) * scale / len(scales)
                if totals[placement] > slow:
                    return {"status": "ok", "seconds": [totals[placement]]}
        return {"status": "ok", "seconds": totals}


@contextlib.contextmanager
def _lost_as_such() -> Iterator[None]:
    """RpcLost for whatever TVM says when the other side is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RpcLost(str(error).strip().splitlines()[-1]) from error


def _loaded(session: Any, library: str, name: str) -> Any:
    session.upload(library, name)
    return session.load_module(name)


def _on(session: Any, data: Sequence[Any]) -> list[Any]:
    place = functools.partial(tvm.runtime.tensor, device=session.cpu(0))
    return [place(value) if isinstance(value, np.ndarray) else value for value in data]


def _results(session: Any, kernel: Any, data: Sequence[Any], results: int) -> list[np.ndarray]:
    arrays = _on(session, data)
    kernel["main"](*arrays)
    return [array.numpy() for array in arrays[-results:]]
