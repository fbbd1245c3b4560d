"""How fast one core could be at all: fp32 multiply-adds in registers, and bytes read from memory, both measured."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from ..targets import Target

CHAINS = 12
"""Independent sums: more than a multiply-add's latency times the two that begin in a cycle; fewer than registers."""

STEPS = 200_000
SMALLEST = 1 << 20
"""Bytes; reading less than that says nothing about memory."""

ROUNDS = 7
"""The best of which counts: what a busy machine takes away is not its limit."""


@dataclass(frozen=True)
class Limits:
    """1e9 fp32 operations a second (a multiply-add is two), and 1e9 bytes read a second."""

    gflops: float
    gbytes: float


@functools.cache
def core_limits(target: Target, nbytes: int) -> Limits:
    """What one core of this machine, with the vectors of ``target``, does at most. Takes about half a second.

    Memory is that of reading ``nbytes`` over and over: a model's weights, which may fit into a cache or not. The
    target's code must run here (``targets.missing_features``).
    """
    lanes = target.vector_lanes
    multiply = _compile(_multiply_function(lanes), target)
    chains = np.full(CHAINS * lanes, 0.5, np.float32)
    arithmetic = _best(multiply, chains)
    steps = max(nbytes, SMALLEST) // (4 * 8 * lanes)
    # Ones: pages of zeros would all be the same page.
    data = np.ones(steps * 8 * lanes, np.float32)
    memory = _best(_compile(_read_function(lanes, steps), target), data, np.zeros(8 * lanes, np.float32))
    return Limits(2.0 * STEPS * CHAINS * lanes / arithmetic / 1e9, data.nbytes / memory / 1e9)


def _multiply_function(lanes: int) -> tirx.PrimFunc:
    size = CHAINS * lanes

    @T.prim_func(s_tir=True)
    def main(chains: T.Buffer((size,), "float32", align=4)) -> None:  # type: ignore[valid-type]
        for _step in range(STEPS):
            for chain in T.unroll(CHAINS):
                for lane in T.vectorized(lanes):
                    chains[chain * lanes + lane] = chains[chain * lanes + lane] * T.float32(0.999999) + T.float32(1e-6)

    return main


def _read_function(lanes: int, steps: int) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((steps * 8 * lanes,), "float32", align=4),  # type: ignore[valid-type]
        sums: T.Buffer((8 * lanes,), "float32", align=4),  # type: ignore[valid-type]
    ) -> None:
        for step in range(steps):
            for chain in T.unroll(8):
                for lane in T.vectorized(lanes):
                    sums[chain * lanes + lane] = (
                        sums[chain * lanes + lane] + data[step * 8 * lanes + chain * lanes + lane]
                    )

    return main


def _compile(function: tirx.PrimFunc, target: Target) -> Any:
    return tvm.compile(tvm.IRModule({"main": function}), target=tvm.target.Target(target.tvm_json()))["main"]


def _best(kernel: Any, *arrays: np.ndarray) -> float:
    """Seconds of the fastest of several calls."""
    tensors = [tvm_ffi.from_dlpack(array) for array in arrays]
    kernel(*tensors)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        kernel(*tensors)
        times.append(time.perf_counter() - start)
    return min(times)
