"""Whether a scheduled function leaves anything to compute on the host."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx


def is_bound(function: tirx.PrimFunc) -> bool:
    """Whether every store of the function lies inside of a loop that is bound to threads."""
    everywhere: list[tirx.BufferStore] = []
    bound: set[tirx.BufferStore] = set()

    def visit_loop(loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.THREAD_BINDING:
            tvm_ffi.structural_walk(loop.body, (tirx.BufferStore, bound.add), order="pre")

    def visit_attribute(attribute: tirx.AttrStmt) -> None:
        if attribute.attr_key == "thread_extent":
            tvm_ffi.structural_walk(attribute.body, (tirx.BufferStore, bound.add), order="pre")

    tvm_ffi.structural_walk(function.body, (tirx.BufferStore, everywhere.append), order="pre")
    tvm_ffi.structural_walk(function.body, [(tirx.For, visit_loop), (tirx.AttrStmt, visit_attribute)], order="pre")
    return all(store in bound for store in everywhere)
