"""CUDA graphs: one run of fixed shapes, recorded once and started as a whole, instead of kernel by kernel.

What is recorded are the kernels with the addresses that they had. So a recording owns its inputs, its outputs and every
tensor in between. Anything that its machine does on the host too (reading a condition, a size that depends on
data, copying) happens once, when recording, and would be missing later: a model that does such things isn't recorded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import tvm_ffi

from ..errors import DeviceError

_RELAXED = 2
"""cudaStreamCaptureModeRelaxed: other threads, and this one's allocations, are none of the recording's business."""

_NON_BLOCKING = 1
"""cudaStreamNonBlocking: the default stream, on which others copy, doesn't wait for the recording."""

_HARMLESS = frozenset(
    f"vm.builtin.{name}"
    for name in (
        "alloc_shape_heap", "alloc_storage", "alloc_tensor", "call_tir_dyn", "check_prim_value_info",
        "check_shape_info", "check_tensor_info", "check_tuple_info", "kill_object", "make_prim_value", "make_shape",
        "make_tuple", "match_prim_value", "match_shape", "null_value", "reshape", "shape_of", "tuple_getitem",
    )
)  # fmt: skip
"""What the machine may do beside starting kernels: it depends on shapes alone, and shapes are fixed."""


class Observer:
    """Sees the calls of a machine: ``kept`` are their results, ``obstacle`` the first that can't be recorded."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.obstacle = ""

    def instrument(self, _function: Any, name: str, before: bool, result: Any, *_arguments: Any) -> int:
        """What the machine calls before and after each function; 0: go on with it."""
        hidden = name.startswith(("vm.", "runtime.", "ffi.")) and name not in _HARMLESS
        if hidden and not self.obstacle:
            self.obstacle = name
        if not before and result is not None:
            self.kept.append(result)
        return 0


class Recording:
    """A recorded run from ``inputs`` to ``result``, tensors on the GPU that it owns."""

    def __init__(self, cudart: ctypes.CDLL, inputs: Sequence[Any], result: Any, kept: Sequence[Any], graph: int):
        self.inputs, self.result = list(inputs), result
        self._cudart, self._kept, self._executable = cudart, list(kept), graph

    def start(self, stream: int) -> None:
        """Queue the whole run on ``stream``. Raises DeviceError."""
        status = self._cudart.cudaGraphLaunch(ctypes.c_void_p(self._executable), ctypes.c_void_p(stream))
        _check(self._cudart, status, "cudaGraphLaunch")

    def __del__(self) -> None:
        self._cudart.cudaGraphExecDestroy(ctypes.c_void_p(self._executable))


def obstacle_of(machine: Any, run: Callable[[Any], Any]) -> str:
    """Run once, for real, and name what can't be recorded; empty when all can. ``run`` takes the function ``main``."""
    observer = Observer()
    machine["set_instrument"](observer.instrument)
    run(machine["main"])
    return observer.obstacle


def record(
    cudart: ctypes.CDLL, device: Any, machine: Any, inputs: Sequence[Any], run: Callable[[Any], Any]
) -> Recording:
    """Record ``run(main)`` of a fresh machine, whose kernels have been started before. Raises DeviceError."""
    observer = Observer()
    machine["set_instrument"](observer.instrument)
    stream, graph, executable = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    _check(cudart, cudart.cudaStreamCreateWithFlags(ctypes.byref(stream), _NON_BLOCKING), "cudaStreamCreate")
    try:
        _check(cudart, cudart.cudaStreamBeginCapture(stream, _RELAXED), "cudaStreamBeginCapture")
        try:
            with tvm_ffi.use_raw_stream(device, stream.value or 0):
                result = run(machine["main"])
        finally:
            ended = cudart.cudaStreamEndCapture(stream, ctypes.byref(graph))
            cudart.cudaGetLastError()  # else a later call would report what went wrong here
        _check(cudart, ended, "cudaStreamEndCapture")
        if observer.obstacle:
            raise DeviceError(f"{observer.obstacle} can't be recorded")
        status = cudart.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        _check(cudart, status, "cudaGraphInstantiate")
    finally:
        if graph.value:
            cudart.cudaGraphDestroy(graph)
        cudart.cudaStreamDestroy(stream)
    return Recording(cudart, inputs, result, observer.kept, executable.value or 0)


def _check(cudart: ctypes.CDLL, status: int, call: str) -> None:
    if status != 0:
        cudart.cudaGetErrorString.restype = ctypes.c_char_p
        words = cudart.cudaGetErrorString(status).decode(errors="replace")
        raise DeviceError(f"{call} failed: {words}", hint="set session.use_graphs = False")
