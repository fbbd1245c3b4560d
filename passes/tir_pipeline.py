"""The passes that turn scheduled functions into what LLVM compiles, for CPUs.

TVM's default order without its GPU passes and without ``NarrowDataType``: narrowing indices to 32 bits where sizes are
known leaves functions with symbolic sizes half narrowed, and later passes then meet int32 < int64.
"""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx
from tvm.tirx.compilation_pipeline import PIPELINE_MAP, finalize_device_passes, register_tir_pipeline

from . import vectorize_math
from .carry_broadcasts import carry_broadcasts
from .fold_coefficients import fold_coefficients
from .keep_on_stack import keep_on_stack
from .keep_rounding import keep_rounding
from .peel_borders import peel_borders
from .peel_tails import peel_tails
from .permute_tables import expand_lookups
from .prefetch_weights import prefetch_weights
from .round_bfloat16 import round_bfloat16
from .vectorize_math import expand_math, keep_scalar

NAME = "onnxkiln_cpu"


def _passes() -> list[tvm.transform.Pass]:
    return [
        round_bfloat16(),
        keep_rounding(),
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.BF16ComputeLegalize(),
        peel_borders(),
        peel_tails(),
        tirx.transform.ConvertSSA(),
        s_tir.transform.LoopPartition(),
        keep_scalar(),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.StorageRewrite(),
        s_tir.transform.HoistIfThenElse(),
        tirx.transform.UnrollLoop(),
        fold_coefficients(),
        prefetch_weights(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
        carry_broadcasts(),
        tirx.transform.FP8ComputeLegalize(),
        expand_lookups(),
        expand_math(),
        keep_on_stack(),
        tirx.transform.VerifyMemory(),
        tirx.transform.AnnotateEntryFunc(),
        tirx.transform.SplitHostDevice(),
        tirx.transform.MakePackedAPI(),
        tirx.transform.FP8StorageLegalize(),
        tirx.transform.BF16StorageLegalize(),
    ]


def _finalize() -> tvm.transform.Pass:
    return tvm.transform.Sequential([tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()])


def _factory() -> tuple:
    return tvm.transform.Sequential(_passes()), _finalize, finalize_device_passes


def register() -> str:
    """Make the pipeline known to TVM once; returns its name."""
    if NAME not in PIPELINE_MAP:
        register_tir_pipeline(NAME, _factory)
        # LLVM rounds vectors half to even, which TVM says of its other roundings only.
        tvm.ir.register_op_attr("tirx.nearbyint", "TVectorizable", True)
        vectorize_math.register()
    return NAME
