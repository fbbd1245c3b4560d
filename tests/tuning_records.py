"""Tuning records for tests: one whole, and others by what differs from it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from onnxkiln.tuning.record import Record

WHOLE = Record(
    workload=hashlib.sha256(b"conv").hexdigest(),
    task="conv2d 1x56x56x64 -> 64, 3x3/1, +relu",
    template="conv2d",
    template_version=1,
    algorithm="direct",
    parameters={"pixels": 7, "blocks": 4},
    isa="x86-64-v4",
    threads=1,
    cache="l2=1024k",
    machine="a processor, 1 thread, TVM 0.27",
    status="ok",
    seconds=(2e-3, 1e-3, 3e-3),
    error="",
    features={"flops": 231211008.0, "pixels": 7},
    versions="onnxkiln 0.1.0, apache-tvm 0.27.0.post1",
    when="2026-01-31T12:00:00Z",
)


def make(**changes: Any) -> Record:
    """``WHOLE`` with other fields; what failed has no latencies, and ``workload`` may be any text."""
    if changes.get("status", "ok") != "ok":
        changes = {"seconds": (), "error": "why", **changes}
    if "workload" in changes:
        changes["workload"] = hashlib.sha256(changes["workload"].encode()).hexdigest()
    return replace(WHOLE, **changes)


def several(count: int, **changes: Any) -> list[Record]:
    """Records that differ in a parameter and in latency: the first is the fastest."""
    return [make(parameters={"pixels": n}, seconds=(1e-3 + n * 1e-6,), **changes) for n in range(count)]
