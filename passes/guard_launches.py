"""Start no kernel over nothing: TVM's runtime makes a grid of 0 blocks one of 1, which would write past the end.

Where a size is known at run time only, the host asks whether it is positive before it starts the kernel.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx


def guard_launches() -> tvm.transform.Pass:
    """A pass over lowered functions, before kernels are split from them."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.GuardLaunches")
    def run(
        function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tirx.PrimFunc:
        return function.with_body(_guarded(function.body))

    return run


def _guarded(body: tirx.Stmt) -> tirx.Stmt:
    launches: list[tirx.AttrStmt] = []
    inner: set[tirx.AttrStmt] = set()

    def visit(attribute: tirx.AttrStmt) -> None:
        if attribute.attr_key == "thread_extent" and attribute not in inner:
            launches.append(attribute)
            tvm_ffi.structural_walk(attribute.body, (tirx.AttrStmt, inner.add), order="pre")

    tvm_ffi.structural_walk(body, (tirx.AttrStmt, visit), order="pre")
    replaced = {launch: _with_condition(launch) for launch in launches}
    return tvm_ffi.structural_map(body, (tirx.AttrStmt, lambda node: replaced.get(node, node)), order="post")


def _with_condition(launch: tirx.AttrStmt) -> tirx.Stmt:
    extents: list[tvm.ir.Expr] = []

    def visit(attribute: tirx.AttrStmt) -> None:
        if attribute.attr_key == "thread_extent" and not isinstance(attribute.value, tirx.IntImm):
            extents.append(attribute.value)

    tvm_ffi.structural_walk(launch, (tirx.AttrStmt, visit), order="pre")
    result: tirx.Stmt = launch
    for extent in extents:
        result = tirx.IfThenElse(extent > 0, result, None)
    return result
