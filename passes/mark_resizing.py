"""Operators that read element i for element i, but give more or fewer of them, are no elementwise ones.

TVM compares indices, not extents: a Pad that only adds at the end, or a Slice from 0, passes for elementwise. Fused
behind a product it would be computed where the product has elements, and what was added would stay unwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

ATTRIBUTE = "op_pattern"
INJECTIVE = 2


def mark_resizing(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Between AnnotateTIROpPattern and FuseOps. Returns the module and how many functions became injective."""
    found = [gv for gv, function in mod.functions.items() if _is_elementwise(function) and _resizes(function)]
    if not found:
        return mod, 0
    result = mod.clone()
    for gv in found:
        result.update_func(gv, mod[gv].with_attr(ATTRIBUTE, INJECTIVE))
    return result, len(found)


def _is_elementwise(function: Any) -> bool:
    """Elementwise (0) or broadcast (1)."""
    return isinstance(function, tirx.PrimFunc) and int(dict(function.attrs or {}).get(ATTRIBUTE, INJECTIVE)) < INJECTIVE


def _resizes(function: tirx.PrimFunc) -> bool:
    """Whether a store reads, at one of its own indices, a buffer of another extent."""
    stores: list[tirx.BufferStore] = []
    tvm_ffi.structural_walk(function.body, (tirx.BufferStore, stores.append))
    return any(_differs(store, load) for store in stores for load in _loads(store.value))


def _loads(value: Any) -> list[TensorLoad]:
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(value, (TensorLoad, loads.append))
    return loads


def _differs(store: tirx.BufferStore, load: TensorLoad) -> bool:
    written = _extents(store.indices, store.buffer.shape)
    read = _extents(load.indices, load.source.shape)
    pairs = [(extent, own) for index, extent in read for at, own in written if at.same_as(index)]
    return any(not tvm_ffi.structural_equal(extent, own) for extent, own in pairs)


def _extents(indices: Sequence[Any], shape: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [pair for pair in zip(indices, shape, strict=True) if isinstance(pair[0], tvm.ir.Var)]
