"""What no template's expression replaced becomes TVM's own, with our forms where theirs would be slow."""

from __future__ import annotations

import tvm
from tvm import relax

from ..targets import Target
from .constants import op_name, shape_of
from .join_in_place import AXIS_KEY
from .legalize_pools import max_pool
from .legalize_reductions import Legalizer, reduction_legalizers


def _keep_view(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A reshape is a view of the same memory: no kernel runs for it.

    Relax's reshape takes a size of 0 for "as in the input": empty tensors are left to TVM's own form.
    """
    shape = shape_of(call)
    if shape is None or 0 in shape:
        return call if shape is None else tvm.ir.Op.get(op_name(call)).get_attr("FLegalize")(builder, call)
    return relax.op.reshape(call.args[0], call.ty.shape)


_VIEWS = {f"relax.{name}": _keep_view for name in ("expand_dims", "squeeze", "flatten")}


def _as_tvm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return tvm.ir.Op.get(op_name(call)).get_attr("FLegalize")(builder, call)


def _of_single_elements(legalize_reduction: Legalizer) -> Legalizer:
    """A sum, mean, maximum... over axes of size 1 is its operand in another shape: a view too."""

    def run(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        dims, axes = shape_of(call.args[0]), call.attrs.axis
        reduced = [] if dims is None else [dims[int(axis)] for axis in (range(len(dims)) if axes is None else axes)]
        if dims is None or shape_of(call) is None or 0 in dims or any(size != 1 for size in reduced):
            return legalize_reduction(builder, call)
        return relax.op.reshape(call.args[0], call.ty.shape)

    return run


def _joins(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """TVM's kernel, marked so that ``join_in_place`` finds it if nothing is fused with it."""
    made = _as_tvm(builder, call)
    dims = shape_of(call)
    if dims is not None and op_name(made) == "relax.call_tir":
        gv = made.args[0]
        builder.update_func(gv, builder.get()[gv].with_attr(AXIS_KEY, int(call.attrs.axis) % len(dims)))
    return made


def legalize(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """Every operator but reshapes becomes a call of a function in the module."""
    reductions = {} if target.is_gpu else reduction_legalizers(target.vector_lanes)
    for kind in ("relax.sum", "relax.mean", "relax.max", "relax.min", "relax.prod"):
        reductions[kind] = _of_single_elements(reductions.get(kind, _as_tvm))
    pools = {f"relax.nn.max_pool{axes}d": max_pool for axes in (1, 2, 3)}
    custom = {**_VIEWS, **pools, **reductions, "relax.concat": _joins}
    return relax.transform.LegalizeOps(custom, skip_ops=["relax.reshape"])(mod)
