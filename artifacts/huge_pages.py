"""Ask the kernel for huge pages where activations are large.

A feature map of many megabytes spans thousands of ordinary pages, more than a core can remember the places of; and the
first run waits for each of them to be made. The runtime's memory pool takes memory once and keeps it, so it is asked
for in a machine's first run alone: each large tensor that a function is about to write, before anything is in it.
What isn't whole huge pages inside a buffer stays as it is, so no more memory is taken. Weights are left alone: they
are pages of a file, which processes share.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tvm_ffi

LEAST = 1 << 21
"""Bytes: x86-64's huge page, and that of arm64 with pages of 4 KB."""

_PAGE = 1 << 12
_MADV_HUGEPAGE = 14


class FirstRun:
    """``machine``'s main function, whose first call asks for huge pages; the later ones don't look any more."""

    def __init__(self, machine: Any):
        self.main = machine["main"]
        self._machine = machine

    def __call__(self, *arguments: Any) -> Any:
        machine, self._machine = self._machine, None
        if machine is None:
            return self.main(*arguments)
        machine["set_instrument"](_Adviser(arguments).instrument)
        try:
            return self.main(*arguments)
        finally:
            machine["set_instrument"](None)


class _Adviser:
    """Sees every call of a function. The callers' own tensors, ``arguments``, are none of its business."""

    def __init__(self, arguments: tuple[Any, ...]):
        self._done = set(_addresses(arguments))

    def instrument(self, _function: Any, name: str, before: bool, _result: Any, *arguments: Any) -> int:
        """Returns 0: go on with the call."""
        if before and not name.startswith("vm.builtin."):
            for tensor in arguments:
                if isinstance(tensor, tvm_ffi.Tensor) and tensor.data_ptr() not in self._done:
                    self._done.add(tensor.data_ptr())
                    size = tensor.numel() * tensor.dtype.itemsize
                    if size >= LEAST:
                        advise(tensor.data_ptr(), size)
        return 0


def _addresses(arguments: Iterable[Any]) -> Iterator[int]:
    """Of inputs, and of the weights, which come in an array."""
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            yield argument.ctypes.data
        elif isinstance(argument, tvm_ffi.Tensor):
            yield argument.data_ptr()
        elif isinstance(argument, tvm_ffi.Array):
            yield from _addresses(argument)


def advise(address: int, size: int) -> None:
    """Ask for huge pages in ``size`` bytes from ``address``. Systems without them say no, which changes nothing."""
    start, end = -(-address // _PAGE) * _PAGE, (address + size) // _PAGE * _PAGE
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is not None and start < end:
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_HUGEPAGE)
