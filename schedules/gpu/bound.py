"""Whether a scheduled function leaves anything to compute on the host."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx


def is_bound(function: tirx.PrimFunc) -> bool:
    """Whether every store lies inside of a loop that is bound to threads, and no loop of the host around one."""
    everywhere: list[tirx.BufferStore] = []
    bound: set[tirx.BufferStore] = set()
    inside: set[tirx.For] = set()
    loops: list[tirx.For] = []

    def enter(body: tirx.Stmt) -> None:
        tvm_ffi.structural_walk(body, [(tirx.BufferStore, bound.add), (tirx.For, inside.add)], order="pre")

    def visit_loop(loop: tirx.For) -> None:
        loops.append(loop)
        if loop.kind == tirx.ForKind.THREAD_BINDING:
            inside.add(loop)
            enter(loop.body)

    def visit_attribute(attribute: tirx.AttrStmt) -> None:
        if attribute.attr_key == "thread_extent":
            enter(attribute.body)

    tvm_ffi.structural_walk(function.body, (tirx.BufferStore, everywhere.append), order="pre")
    tvm_ffi.structural_walk(function.body, [(tirx.For, visit_loop), (tirx.AttrStmt, visit_attribute)], order="pre")
    return all(store in bound for store in everywhere) and all(loop in inside for loop in loops)
