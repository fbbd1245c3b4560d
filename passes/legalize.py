"""What no template's expression replaced becomes TVM's own, with our forms where theirs would be slow."""

from __future__ import annotations

import tvm
from tvm import relax

from ..targets import Target
from .constants import shape_of
from .legalize_reductions import reduction_legalizers


def _keep_view(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A reshape is a view of the same memory: no kernel runs for it."""
    shape = shape_of(call)
    return call if shape is None else relax.op.reshape(call.args[0], call.ty.shape)


_VIEWS = {f"relax.{name}": _keep_view for name in ("expand_dims", "squeeze", "flatten")}


def legalize(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """Every operator but reshapes becomes a call of a function in the module."""
    ours = {**_VIEWS, **reduction_legalizers(target.vector_lanes)}
    return relax.transform.LegalizeOps(ours, skip_ops=["relax.reshape"])(mod)
