"""A kernel that writes its result into part of a larger tensor, from one that writes it alone."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad, TensorRegion
from tvm.sym import Analyzer


def write_part(function: tirx.PrimFunc, axis: int, offset: int, total: int) -> tirx.PrimFunc | None:
    """``function`` with a last parameter that is ``total`` long along ``axis``; it writes from ``offset`` on there.

    Scheduled or not, the loops stay what they are: only places in the result move. None where the function uses its
    result in any other way than by storing and loading elements, as what calls a library does.
    """
    result = function.params[-1]
    whole = tirx.decl_buffer(
        [total if i == axis else dim for i, dim in enumerate(result.shape)], result.dtype, result.name
    )

    def moved(indices: Any) -> list[Any]:
        return [_plus(index, offset) if i == axis else index for i, index in enumerate(indices)]

    def store(node: tirx.BufferStore) -> tirx.BufferStore:
        return tirx.BufferStore(whole, node.value, moved(node.indices)) if node.buffer.same_as(result) else node

    def load(node: TensorLoad) -> Any:
        return tirx.BufferLoad(whole, moved(node.indices)) if node.source.same_as(result) else node

    def region(node: TensorRegion) -> Any:
        if not node.source.same_as(result):
            return node
        ranges = [
            tvm.ir.Range.from_min_extent(_plus(r.min, offset), r.extent) if i == axis else r
            for i, r in enumerate(node.region)
        ]
        return tirx.BufferRegion(whole, ranges)

    entries = [(tirx.BufferStore, store), (TensorLoad, load), (TensorRegion, region)]
    body = tvm_ffi.structural_map(function.body, entries, order="post")
    if _occurs(body, result):
        return None
    return tirx.PrimFunc([*function.params[:-1], whole], body, function.ret_type, attrs=function.attrs)


def _plus(index: Any, offset: int) -> Any:
    return Analyzer().simplify(index + offset) if offset else index


def _occurs(body: Any, variable: Any) -> bool:
    found: list[bool] = []
    tvm_ffi.structural_walk(body, (tvm.ir.Var, lambda var: found.append(True) if var.same_as(variable) else None))
    return bool(found)
