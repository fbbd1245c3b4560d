"""From scheduled functions to host code and the CUDA source of their kernels.

TVM's own way compiles the source while it builds, if it finds a driver, and else exports the source and says nothing.
Here the source is always taken out, and compiled by what ``artifacts.device`` finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax import vm_build

from ..errors import CompileError
from ..gpus import DeviceKernel
from ..targets import Target
from . import emit_loops
from .gpu_pipeline import cuda_source, split_modules
from .lower import lowering


@dataclass(frozen=True)
class GpuProgram:
    """``executable`` holds host code alone; ``source`` the kernels that it starts, by the names in ``kernels``."""

    executable: relax.VMExecutable
    source: str
    kernels: tuple[DeviceKernel, ...]


def build_gpu(mod: tvm.IRModule, target: Target) -> GpuProgram:
    """Compile a scheduled module; ``main(*inputs, weights)`` takes and gives tensors on the GPU.

    Raises CompileError when a function computes on the host, and for loops of the graph, which the host steers.
    """
    if any(emit_loops.is_loop(function) for function in mod.functions.values()):
        raise CompileError("Loop and Scan are for processors only yet", hint="compile the model for cpu")
    tvm_target = tvm.target.Target(target.tvm_json())
    found: dict[str, Any] = {"source": "", "kernels": ()}

    def link(builder: relax.ExecBuilder, functions: tvm.IRModule | None) -> relax.VMExecutable:
        if functions is None:  # a graph of nothing but views
            return relax.VMExecutable(vm_build._ffi_api.VMLink(builder, tvm_target, None, [], {}))
        host, device = split_modules(functions, tvm_target)
        refuse_host_loops(host)
        found["source"], found["kernels"] = _source(device, tvm_target)
        library = tvm_ffi.get_global_func("target.build.llvm")(host, tvm_target.host)
        return relax.VMExecutable(vm_build._ffi_api.VMLink(builder, tvm_target, library, [], {}))

    with tvm.transform.PassContext(opt_level=3, config={}):
        executable = emit_loops.build(mod, tvm_target, lowering(), "", link=link)
    return GpuProgram(executable, found["source"], found["kernels"])


def refuse_host_loops(host: tvm.IRModule) -> None:
    """Raise CompileError if a host function has a loop: what it computes would be computed by the processor."""
    wrong = []
    for gv, function in host.functions.items():
        loops: list[tirx.For] = []
        tvm_ffi.structural_walk(function.body, (tirx.For, loops.append), order="post")
        tvm_ffi.structural_walk(function.body, (tirx.While, loops.append), order="post")
        if loops:
            wrong.append(gv.name_hint)
    if wrong:
        raise CompileError(
            f"{len(wrong)} function(s) would compute on the host: {', '.join(sorted(wrong))}",
            hint="report the model; --target cpu compiles it meanwhile",
        )


def _source(device: tvm.IRModule, target: tvm.target.Target) -> tuple[str, tuple[DeviceKernel, ...]]:
    if not device.functions:
        return "", ()
    source = cuda_source(device, target)
    signatures = [_signature(function) for function in device.functions.values() if "global_symbol" in function.attrs]
    return source, tuple(sorted(signatures, key=lambda signature: signature.name))


def _signature(function: tirx.PrimFunc) -> DeviceKernel:
    arguments = tuple(
        "handle" if isinstance(param.ty, tvm.ir.PointerType) else str(param.ty.dtype) for param in function.params
    )
    launch = tuple(str(tag) for tag in function.attrs.get("tirx.kernel_launch_params", []))
    return DeviceKernel(str(function.attrs["global_symbol"]), arguments, launch, _threads(function))


def _threads(function: tirx.PrimFunc) -> int:
    """Threads of a block: the extents of threadIdx, which schedules keep constant."""
    extents: dict[str, int] = {}

    def visit(attribute: tirx.AttrStmt) -> None:
        if attribute.attr_key == "thread_extent" and attribute.node.thread_tag.startswith("threadIdx"):
            extents[attribute.node.thread_tag] = int(attribute.value)

    tvm_ffi.structural_walk(function.body, (tirx.AttrStmt, visit), order="pre")
    return math.prod(extents.values())
