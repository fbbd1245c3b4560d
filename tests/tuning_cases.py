"""A small network with kernels to tune, optimized as a compile does it, and records about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from pass_graphs import const, data, emit, graph
from tvm import relax

from onnxkiln import targets
from onnxkiln.contract import Contract, DimRange, TensorSpec
from onnxkiln.passes.lift_weights import lift_weights
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.tuning.record import Record
from onnxkiln.tuning.search import TaskSearch
from onnxkiln.tuning.tasks import Task, tasks_of

O = relax.op  # noqa: E741
HOST = targets.parse("cpu")[0]


def optimized(mod: tvm.IRModule) -> tuple[tvm.IRModule, Sequence[tuple[str, np.ndarray]]]:
    return lift_weights(Pipeline("O2").optimize(mod, HOST))


def layers(rows: int | str, depth: int = 64, columns: int = 96, repeat: int = 1) -> tvm.IRModule:
    """A product with packed weights, ``repeat`` times a square one, and a softmax, which has nothing to choose."""
    first, square = data(depth, columns), [data(columns, columns) for _ in range(repeat)]

    def network(x: relax.Expr) -> relax.Expr:
        y = emit(O.nn.relu(O.matmul(x, const(first))))
        for weight in square:
            y = emit(O.matmul(y, const(weight)))
        return O.nn.softmax(y)

    return graph(network, (rows, depth))


def contract_of(shape: Sequence[int | str], **dims: DimRange) -> Contract:
    return Contract((TensorSpec("x", "float32", tuple(shape)),), (), dims)


def tasks(rows: int | str = 12, **options: Any) -> list[Task]:
    mod, _ = optimized(layers(rows, **options))
    return tasks_of(mod, HOST, contract_of([rows, options.get("depth", 64)]))


def search_of(task: Task) -> TaskSearch:
    """In the order in which the candidates are listed."""
    return TaskSearch(task, task.choices.candidates)


def record_of(task: Task, parameters: Any, seconds: float | None, status: str = "ok", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "workload": task.workload, "task": task.text, "template": task.choices.template,
        "template_version": task.choices.version, "algorithm": task.algorithm, "parameters": dict(parameters),
        "isa": HOST.isa.name, "threads": 1, "cache": "", "machine": "this one", "status": status,
        "seconds": () if seconds is None else (seconds,), "error": "",
        "features": task.candidate_features(parameters, HOST), "versions": "", "when": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    return Record(**{**values, **changes})
