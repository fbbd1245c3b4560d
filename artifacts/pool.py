"""Keep TVM's memory pool from growing without end.

The pool keeps every freed block for a request of exactly its size. That is right while sizes recur, but with
ever-changing shapes each new size stays for good. So after a number of shapes never seen before it is emptied;
blocks in use are not touched, and the next runs fill it again.
"""

from __future__ import annotations

import re

from ..contract import Contract
from .runtime import function

_SHAPES = 32
"""Distinct sets of input sizes that the pool may remember."""

_RUNS = 1024
"""Runs after which it is emptied when the sizes of results depend on the data, not on the inputs' sizes."""


class PoolKeeper:
    """One per session; the pool itself is the process's."""

    def __init__(self, contract: Contract):
        self._clear = function("vm.builtin.memory_manager.clear")
        self._seen: set[tuple[tuple[int, ...], ...]] = set()
        self.counts_runs = _has_own_dims(contract)
        self._runs = 0

    def note(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Tell of a finished run and the shapes of its inputs with open dims."""
        if shapes not in self._seen:
            if len(self._seen) >= _SHAPES:
                self._seen.clear()
                self._clear()
            self._seen.add(shapes)
        if self.counts_runs:
            self._runs += 1
            if self._runs % _RUNS == 0:
                self._clear()


def _has_own_dims(contract: Contract) -> bool:
    """Whether an output has a dim that isn't made of the inputs' dims: its size depends on the data."""
    known = {dim for spec in contract.inputs for dim in spec.shape if isinstance(dim, str)}
    dims = {dim for spec in contract.outputs for dim in spec.shape if isinstance(dim, str)} - known
    return any(name not in known for dim in dims for name in re.findall(r"[A-Za-z_]\w*", dim))
