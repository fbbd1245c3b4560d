"""Graphs of one or a few operators, compiled the way ``onnxkiln.compile`` does, and what became of their kernels."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.lower import build
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.schedule_functions import KernelReport, schedule_functions

LEVELS = ["cpu:x86-64-v1", "cpu:x86-64-v3", "cpu:x86-64-v4"]


def runnable(target: str) -> bool:
    return not targets.missing_features(targets.parse(target)[0].required_features)


class Kernels:
    """A graph after the whole pipeline; ``reports`` tell each kernel's schedule."""

    def __init__(self, mod: tvm.IRModule, target: str = "cpu", level: str = "O2"):
        machine = targets.parse(target)[0]
        pipeline = Pipeline(level)
        optimized = pipeline.optimize(mod, machine)
        scheduled, self.reports = schedule_functions(optimized, machine)
        self.executable = build(pipeline.finish(scheduled, machine), machine)
        self._machine = relax.VirtualMachine(self.executable, tvm.cpu())

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        results = self._machine["main"](*[tvm.runtime.tensor(np.asarray(array, order="C")) for array in arrays])
        return [result.numpy() for result in results]

    def of(self, template: str | None) -> list[KernelReport]:
        return [report for report in self.reports if report.template == template]
