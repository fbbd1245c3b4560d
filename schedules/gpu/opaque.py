"""Functions that were written as loops run in one thread of the GPU: slow, but where the data is."""

from __future__ import annotations

from tvm import tirx


def bind_opaque(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Wrap the whole body into one block of one thread; parallel and vectorised loops become plain ones."""
    return function.with_body(bind_single_thread(function.body))


def bind_single_thread(body: tirx.Stmt) -> tirx.Stmt:
    for tag in ("threadIdx.x", "blockIdx.x"):
        variable = tirx.Var(tag.replace(".", "_"), "int32")
        thread = tirx.IterVar(None, tirx.Var(tag, "int32"), tirx.IterVar.ThreadIndex, tag)
        body = tirx.For(variable, 0, 1, tirx.ForKind.THREAD_BINDING, body, thread)
    return body
