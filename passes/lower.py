"""From scheduled functions and their call graph to what TVM's virtual machine runs."""

from __future__ import annotations

import tvm
from tvm import relax

from ..targets import Target
from . import emit_loops, tir_pipeline
from .order_shape_stores import order_shape_stores
from .plan_memory import plan_memory

T = relax.transform

BUILD_CONFIG = {
    # Peels the tails of loops that schedules hint at, constant lengths included. A tail of one iteration stays a loop:
    # TVM would put an int32 in place of its int64 variable.
    "s_tir.LoopPartition": {"partition_const_loop": True, "no_unroll_loop_with_extent_one": True},
}


def build(mod: tvm.IRModule, target: Target) -> relax.VMExecutable:
    """Compile a scheduled module for one target. ``main(*inputs, weights)`` returns an array of outputs."""
    tvm_target = tvm.target.Target(target.tvm_json())
    with tvm.transform.PassContext(opt_level=3, config=BUILD_CONFIG):
        return emit_loops.build(mod, tvm_target, lowering(), tir_pipeline.register())


def build_functions(mod: tvm.IRModule, target: Target) -> tvm.runtime.Module:
    """Compile scheduled functions alone, without a virtual machine that calls them: what a tuner measures."""
    tvm_target = tvm.target.Target(target.tvm_json())
    with tvm.transform.PassContext(opt_level=3, config=BUILD_CONFIG), tvm_target:
        return tvm.tirx.build(mod, target=tvm_target, pipeline=tir_pipeline.register())


def lowering() -> tvm.transform.Pass:
    """From the call graph to calls of the virtual machine's builtins."""
    return tvm.transform.Sequential(
        [
            plan_memory(),
            T.KillAfterLastUse(),
            T.LowerRuntimeBuiltin(),
            T.ComputePrimValue(),
            T.VMShapeLower(emit_err_ctx=True),
            order_shape_stores(),
            T.AttachGlobalSymbol(),
        ]
    )
