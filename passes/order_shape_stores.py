"""Give the functions that compute a graph's sizes one order of their statements.

TVM collects the sizes to compute in a hash map, whose order changes from process to process. Each statement stores a
size of its own, computed from sizes that were given: any order will do.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from ..schedules.blocks import as_int


def order_shape_stores() -> tvm.transform.Pass:
    """A pass for modules that ``VMShapeLower`` has been over."""

    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        result = mod.clone()
        for gv, function in mod.functions.items():
            if isinstance(function, tirx.PrimFunc) and gv.name_hint.startswith("shape_func"):
                result.update_func(gv, ordered(function))
        return result

    return tvm.transform.module_pass(run, opt_level=0, name="OrderShapeStores")


def ordered(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with its stores in the order of the places that they fill; anything else is left as it is."""
    body = function.body
    places = [_place(store) for store in body.seq] if isinstance(body, tirx.SeqStmt) else [None]
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return function
    order = sorted(range(len(known)), key=known.__getitem__)
    return function.with_body(tirx.SeqStmt([body.seq[i] for i in order]))


def _place(store: Any) -> int | None:
    if not isinstance(store, tirx.BufferStore) or len(store.indices) != 1:
        return None
    return as_int(store.indices[0])
