"""The passes that turn scheduled functions into kernels and the host code that starts them.

TVM's default order for GPUs, but for two things. Common subexpressions are left to NVRTC, as TVM would take some out of
the kernel and then not pass them. And indices are narrowed to 32 bits only in functions whose sizes are all
known. With symbolic sizes narrowing leaves functions half done, and later passes then meet int32 < int64.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.tirx.compilation_pipeline import finalize_device_passes, finalize_host_passes

from ..schedules.gpu.tensor_intrinsics import MARK, with_tensor_cores
from ..targets import Target
from .guard_launches import guard_launches
from .keep_rounding import keep_rounding
from .round_bfloat16 import round_bfloat16

_KEEP_SOURCE = "TVM_COMPILE_FORCE_FALLBACK"


def _passes() -> list[tvm.transform.Pass]:
    return [
        round_bfloat16(),
        keep_rounding(),
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerCrossThreadReduction(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LiftThreadBinding(),
        s_tir.transform.ManifestSharedMemoryLocalStage(),
        s_tir.transform.StmtSimplify(),  # else modulos hide how little of a buffer is in use at a time
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerAutoCopy(),
        s_tir.transform.UnifyThreadBinding(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.InjectPermutedLayout(),
        s_tir.transform.AnnotateIrregularLoop(),
        s_tir.transform.InjectSoftwarePipeline(),
        s_tir.transform.TransformMmaBufferLayout(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.BF16ComputeLegalize(),
        _narrow_indices(),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(True),
        s_tir.transform.InjectVirtualThread(),
        s_tir.transform.InjectDoubleBuffer(),
        _reuse_storage(),
        s_tir.transform.HoistIfThenElse(),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.FP8ComputeLegalize(),
        tirx.transform.VerifyMemory(),
        tirx.transform.AnnotateEntryFunc(),
        s_tir.transform.ThreadSync("shared"),
        s_tir.transform.ThreadSync("shared.dyn"),
        s_tir.transform.ThreadSync("warp"),
        s_tir.transform.InferFragment(),
        s_tir.transform.LowerThreadAllreduce(),
        s_tir.transform.MergeSharedMemoryAllocations(),
        guard_launches(),
        tirx.transform.SplitHostDevice(),
        tirx.transform.MakePackedAPI(),
        tirx.transform.FP8StorageLegalize(),
        tirx.transform.BF16StorageLegalize(),
    ]


def split_modules(mod: tvm.IRModule, target: tvm.target.Target) -> tuple[tvm.IRModule, tvm.IRModule]:
    """Lower every function of ``mod`` and return (host functions, kernels), each ready for its code generator."""
    bound = tirx.transform.BindTarget(target)(mod)
    lowered = tvm.transform.Sequential(_passes())(bound)
    host = tirx.transform.Filter(_is_host)(lowered)
    device = tirx.transform.Filter(lambda function: not _is_host(function))(lowered)
    return finalize_host_passes()(host), finalize_device_passes()(device)


def cuda_source(device: tvm.IRModule, target: tvm.target.Target) -> str:
    """The CUDA source of kernels that ``split_modules`` has made."""
    device = _spell_reinterpretations(device)
    # On a machine with a driver TVM would compile the source here, for the GPU that it finds.
    before = os.environ.get(_KEEP_SOURCE)
    os.environ[_KEEP_SOURCE] = "1"
    try:
        return with_tensor_cores(tvm_ffi.get_global_func("target.build.cuda")(device, target).inspect_source("cuda"))
    finally:
        if before is None:
            del os.environ[_KEEP_SOURCE]
        else:
            os.environ[_KEEP_SOURCE] = before


_AS = {
    ("int32", "float32"): "__int_as_float", ("uint32", "float32"): "__uint_as_float",
    ("float32", "int32"): "__float_as_int", ("float32", "uint32"): "__float_as_uint",
    ("int64", "float64"): "__longlong_as_double", ("float64", "int64"): "__double_as_longlong",
}  # fmt: skip


def _spell_reinterpretations(device: tvm.IRModule) -> tvm.IRModule:
    """TVM takes the address of what is reinterpreted, and a number has none: CUDA's own functions take its place.

    One to its own type has kept TVM from computing on (``keep_rounding``) and is done with.
    """

    def visit(call: tvm.ir.Call) -> tvm.ir.Expr:
        if not isinstance(call.op, tvm.ir.Op) or call.op.name != "tirx.reinterpret":
            return call
        source, target = str(call.args[0].ty.dtype), str(call.ty.dtype)
        if source == target:
            return call.args[0]
        name = _AS.get((source, target))
        return tirx.call_pure_extern(target, name, call.args[0]) if name else call

    result = device.clone()
    for gv, function in device.functions.items():
        result.update_func(gv, function.with_body(tvm_ffi.structural_map(function.body, (tvm.ir.Call, visit))))
    return result


def check_kernel(function: tirx.PrimFunc, target: Target) -> None:
    """Lower one scheduled function alone, down to its source; raises what TVM raises where that fails."""
    tvm_target = tvm.target.Target(target.tvm_json())
    _, device = split_modules(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), tvm_target)
    cuda_source(device, tvm_target)


def _is_host(function: tirx.PrimFunc) -> bool:
    target = function.attrs.get("target", None)
    return target is None or target.kind.name in ("llvm", "c")


def _narrow_indices() -> tvm.transform.Pass:
    return _only("kiln.NarrowIndices", tirx.transform.NarrowDataType(32), lambda function: not is_symbolic(function))


def _reuse_storage() -> tvm.transform.Pass:
    """Where tensor cores read shared memory, its pointers are typed, and a buffer can't take another's place."""
    rewrite = tirx.transform.StorageRewrite()
    return _only("kiln.ReuseStorage", rewrite, lambda function: not (function.attrs and MARK in function.attrs))


def _only(
    name: str, inner: tvm.transform.Pass, applies: Callable[[tirx.PrimFunc], bool]
) -> tvm.transform.Pass:
    """``inner`` for those functions of a module that it applies to."""

    @tvm.transform.module_pass(opt_level=0, name=name)
    def run(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        chosen = {gv: f for gv, f in mod.functions.items() if isinstance(f, tirx.PrimFunc) and applies(f)}
        changed = inner(tvm.IRModule(chosen, attrs=mod.attrs))
        result = mod.clone()
        for gv in chosen:
            result.update_func(gv, changed[gv.name_hint])
        return result

    return run


def is_symbolic(function: tirx.PrimFunc) -> bool:
    """Whether a size of one of the function's buffers is known at run time only."""
    return any(
        not isinstance(size, tirx.IntImm)
        for param in function.params
        for size in (param.shape if tirx.is_buffer_var(param) else [param])
    )
