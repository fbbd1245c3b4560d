"""Small Relax modules, from operators to a virtual machine, without going through ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from onnxkiln import targets
from onnxkiln.passes.legalize_reductions import reduction_legalizers
from onnxkiln.passes.lower import build
from onnxkiln.passes.schedule_functions import KernelReport, schedule_functions
from onnxkiln.passes.vectorize_math import vectorize_math

T = relax.transform


def module_of(function: Callable[..., relax.Expr], *types: tuple[Sequence[Any], str]) -> tvm.IRModule:
    """``main`` that computes ``function`` of parameters with these (shape, dtype) pairs; a str names an open dim."""
    dims: dict[str, tirx.Var] = {}

    def dim(value: Any) -> Any:
        return dims.setdefault(value, tirx.Var(value, "int64")) if isinstance(value, str) else value

    params = [
        relax.Var(f"p{index}", relax.TensorType([dim(d) for d in shape], dtype))
        for index, (shape, dtype) in enumerate(types)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(function(*params)))
        builder.emit_func_output(result)
    return builder.get()


def fused(mod: tvm.IRModule, lanes: int) -> tvm.IRModule:
    """Row-wise operators as our expressions, everything else as TVM's, fused."""
    legal = T.LegalizeOps(reduction_legalizers(lanes), skip_ops=["relax.reshape"])
    fuse = [T.AnnotateTIROpPattern(), T.ConvertToDataflow(1), T.FuseOps(), T.FuseTIR(), T.DeadCodeElimination()]
    return tvm.transform.Sequential([legal, *fuse])(mod)


def primfuncs(mod: tvm.IRModule) -> dict[str, tirx.PrimFunc]:
    return {gv.name_hint: function for gv, function in mod.functions.items() if isinstance(function, tirx.PrimFunc)}


class Compiled:
    """Calls ``main`` with NumPy arrays; ``reports`` tells each kernel's schedule."""

    def __init__(self, mod: tvm.IRModule, target: str = "cpu"):
        machine = targets.parse(target)[0]
        scheduled, self.reports = schedule_functions(fused(mod, machine.vector_lanes), machine)
        self.executable = build(vectorize_math(scheduled)[0], machine)
        self.machine = relax.VirtualMachine(self.executable, tvm.cpu())

    @property
    def rows(self) -> list[KernelReport]:
        return [report for report in self.reports if report.template == "row_reduce"]

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        return self.machine["main"](*[tvm.runtime.tensor(array) for array in arrays]).numpy()
