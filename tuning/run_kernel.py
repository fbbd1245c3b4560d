"""Runs in a worker: one kernel, timed as it runs inside of its model, its result compared with the default's.

Inside a model a kernel finds its weights cold, for all the others were read since its last run, and its activations
warm, for the kernel before has just written them. So there are as many copies of the weights as the model's weights
take, used in turn, and the activations are written before every call. Where buffers lie matters as well: each
placement is a new set of addresses.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import math
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi

PLACEMENTS = 5, 15
"""At least and at most so many sets of addresses."""

CALLS = 3, 30
"""At least and at most so many calls of each."""

PRECISION = 0.02
"""Half the confidence interval of the latency, to which placements are added."""

GUARD = 64
"""Bytes behind a result that no kernel may write to."""

_KEPT_REFERENCES = 8
_references: OrderedDict[str, list[np.ndarray]] = OrderedDict()


def measure(
    library: str,
    reference: str,
    arguments: Sequence[Sequence[dict[str, Any]]],
    scales: Sequence[float],
    results: int,
    cold_bytes: int,
    seconds: float,
    slow: float,
    threads: int = 1,
) -> dict[str, Any]:
    """Time the function ``main`` of ``library`` in about ``seconds`` and check its last ``results`` arguments.

    ``arguments`` are sets of {"shape", "dtype", "is_weight", "value"}; the latency is the mean over the sets, each
    multiplied by its of ``scales``. ``reference`` is the library of the default schedule, whose results count as right.
    A kernel that takes longer than ``slow`` seconds gets no second call. ``threads`` share its loops.
    Gives {"status": "ok", "seconds": [latency of each placement]} or {"status": "wrong", "words": ...}.
    """
    _load_runtime()
    module = tvm_ffi.load_module(library)
    kernel = module["main"]
    if threads > 1:
        module["onnxkiln_use_threads"](threads)
    cases = []
    for number, one in enumerate(arguments):
        data = _make(one, results)
        fault, first = _check(kernel, data, results, _expected(f"{reference} {number}", reference, data, results))
        if fault:
            return {"status": "wrong", "words": fault}
        cases.append(_Case(kernel, data, [a["is_weight"] for a in one], results, cold_bytes, first))
    total = sum(case.first * scale for case, scale in zip(cases, scales, strict=True)) / len(cases)
    if total > slow:
        return {"status": "ok", "seconds": [total]}
    return {"status": "ok", "seconds": _time(cases, scales, seconds)}


@dataclass(frozen=True)
class _Case:
    """A kernel and values for its arguments; ``first`` is the seconds of its first call."""

    kernel: Any
    data: list[Any]
    is_weight: list[bool]
    results: int
    cold_bytes: int
    first: float


@functools.cache
def _load_runtime() -> None:
    """Open TVM's runtime library without TVM, which takes a second to import; not where it is there already."""
    if "tvm" in sys.modules:
        return
    package = importlib.machinery.PathFinder.find_spec("tvm")
    assert package is not None and package.origin is not None
    ctypes.CDLL(str(Path(package.origin).parent / "lib" / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)


def _make(arguments: Sequence[dict[str, Any]], results: int) -> list[Any]:
    """Values for the arguments, the same in every process; results are empty."""
    random = np.random.default_rng(0)
    values: list[Any] = []
    for position, argument in enumerate(arguments):
        shape, dtype = tuple(argument["shape"]), _dtype(argument["dtype"])
        if argument["value"] is not None:
            values.append(argument["value"])
        elif position >= len(arguments) - results:
            values.append(np.zeros(shape, dtype))
        elif dtype.kind == "f" or dtype.name == "bfloat16":
            values.append(random.standard_normal(shape, np.float32).astype(dtype))
        elif dtype.kind == "b":
            values.append(random.integers(0, 2, shape).astype(dtype))
        else:
            # Small: they may be places in another tensor, or sums that must not overflow.
            values.append(random.integers(0, 8, shape).astype(dtype))
    return values


def _dtype(name: str) -> np.dtype:
    if name.startswith(("bfloat16", "float8")):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def _expected(name: str, library: str, data: list[Any], results: int) -> list[np.ndarray]:
    """The results of the default schedule, kept by ``name``."""
    if name not in _references:
        outputs, _, fault = _run(tvm_ffi.load_module(library)["main"], data, results)
        if fault:
            raise RuntimeError(f"the default schedule {fault}")
        _references[name] = outputs
        while len(_references) > _KEPT_REFERENCES:
            _references.popitem(last=False)
    return _references[name]


def _check(kernel: Any, data: list[Any], results: int, expected: list[np.ndarray]) -> tuple[str, float]:
    """(what is wrong with its results, or ""; seconds of the call)."""
    outputs, seconds, fault = _run(kernel, data, results)
    if fault:
        return fault, seconds
    for number, (got, want) in enumerate(zip(outputs, expected)):
        if not agree(got, want):
            return f"result {number} is not the default schedule's", seconds
    return "", seconds


def _run(kernel: Any, data: list[Any], results: int) -> tuple[list[np.ndarray], float, str]:
    """(results, seconds, what was written where it must not be)."""
    # Copies: whatever a faulty kernel does to its inputs, the next one gets them as they were.
    inputs = [tvm_ffi.from_dlpack(v.copy()) if isinstance(v, np.ndarray) else v for v in data[:-results]]
    guarded = [np.full(value.nbytes + GUARD, 0xA5, np.uint8) for value in data[-results:]]
    outputs = [
        raw[: value.nbytes].view(value.dtype).reshape(value.shape)
        for raw, value in zip(guarded, data[-results:], strict=True)
    ]
    arrays = [tvm_ffi.from_dlpack(output) for output in outputs]
    start = time.perf_counter()
    kernel(*inputs, *arrays)
    seconds = time.perf_counter() - start
    beyond = any((raw[-GUARD:] != 0xA5).any() for raw in guarded)
    return outputs, seconds, "writes past the end of its result" if beyond else ""


def agree(got: np.ndarray, want: np.ndarray) -> bool:
    """Integers are equal; floats are within ``1e-3*|want| + 1e-4*max(1, max|want|)``, NaN and infinities in place."""
    if want.dtype.kind in "iub":
        return bool(np.array_equal(got, want))
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return False
    largest = np.abs(b[finite]).max(initial=1.0)
    return bool((np.abs(a[finite] - b[finite]) <= 1e-3 * np.abs(b[finite]) + 1e-4 * largest).all())


def _time(cases: Sequence[_Case], scales: Sequence[float], seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    each = seconds / PLACEMENTS[0] / len(cases)
    latencies: list[float] = []
    for placement in range(PLACEMENTS[1]):
        times = [_one_placement(case, each, placement) * scale for case, scale in zip(cases, scales, strict=True)]
        latencies.append(statistics.fmean(times))
        if placement + 1 >= PLACEMENTS[0] and (time.perf_counter() > end or _interval(latencies) < PRECISION):
            break
    return latencies


def _interval(latencies: list[float]) -> float:
    """Half the 95 % confidence interval of the median, relative to it; 1.25 is the median's loss of precision."""
    spread = statistics.stdev(latencies)
    return 1.96 * 1.25 * spread / math.sqrt(len(latencies)) / statistics.median(latencies)


def _one_placement(case: _Case, seconds: float, placement: int) -> float:
    """The lower quartile of the calls' seconds at new addresses: a call that was interrupted doesn't count."""
    calls = max(CALLS[0], min(CALLS[1], int(seconds / max(case.first, 1e-7))))
    random = np.random.default_rng(placement)
    places = range(len(case.data))
    tensors = [place for place in places if isinstance(case.data[place], np.ndarray)]
    weights = [place for place in tensors if case.is_weight[place]]
    weight_bytes = sum(case.data[place].nbytes for place in weights)
    copies = min(calls + 1, 1 + case.cold_bytes // weight_bytes) if weight_bytes else 1
    warm = {place: _placed(case.data[place], random) for place in tensors if place not in weights}
    sets = []
    for _ in range(copies):
        arrays = {**warm, **{place: _placed(case.data[place], random) for place in weights}}
        sets.append([tvm_ffi.from_dlpack(arrays[p]) if p in arrays else case.data[p] for p in places])
    written = [place for place in warm if place < len(case.data) - case.results]
    times = []
    for call in range(calls + 1):
        for place in written:
            np.copyto(warm[place], case.data[place])
        start = time.perf_counter()
        case.kernel(*sets[call % copies])
        times.append(time.perf_counter() - start)
    return float(np.quantile(times[1:], 0.25))


def _placed(value: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A copy at a multiple of 64 bytes, anywhere in its page."""
    raw = np.empty(value.nbytes + 4096 + 64, np.uint8)
    start = -raw.ctypes.data % 64 + 64 * int(random.integers(0, 64))
    result = raw[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    np.copyto(result, value)
    return result
