"""Functions that compute sizes store them in the order of their places.

TVM collects sizes in a set that is ordered by address, so that the same model would give other code now and then. Each
size goes to a place of its own and is computed from places that were filled by earlier functions: any order is right.
"""

from __future__ import annotations

import tvm
from tvm import tirx


def order_shapes(mod: tvm.IRModule) -> tvm.IRModule:
    """Returns the module with the stores of each function of the virtual machine's sizes in order."""
    result = mod.clone()
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc) and "tirx.is_host_func" in (function.attrs or {}):
            result.update_func(gv, _ordered(function))
    return result


def _ordered(function: tirx.PrimFunc) -> tirx.PrimFunc:
    body = function.body
    if not isinstance(body, tirx.SeqStmt):
        return function
    stores = list(body.seq)
    if not all(isinstance(store, tirx.BufferStore) and isinstance(store.indices[0], tirx.IntImm) for store in stores):
        return function
    return function.with_body(tirx.SeqStmt(sorted(stores, key=lambda store: int(store.indices[0]))))
