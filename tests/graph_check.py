"""Compiles drawn graphs through the public door and compares with their known outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from graphs import ASSIGNMENTS, Array, Graph

import onnxkiln
from onnxkiln.compare import compare_all
from onnxkiln.contract import COPIED_SIZE, REFUSALS
from onnxkiln.errors import KilnError


def assignments(fixed: int | None) -> list[int]:
    return list(range(ASSIGNMENTS)) if fixed is None else [fixed]


def run_artifact(
    model: onnx.ModelProto, feeds: list[dict[str, Array]], folder: Path, level: str = "O2"
) -> list[list[Array]]:
    """Compile once, load, and run on each set of feeds."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    artifact = onnxkiln.compile(path, folder / "artifact", level=level, include_runtime=False)
    with onnxkiln.load(artifact) as session:
        return [session.run(None, feed) for feed in feeds]


def disagreements(graph: Graph, fixed: int | None = None, level: str = "O2") -> dict[str, str]:
    """What the artifact gets wrong: output name to what differs. Open dims, or those of assignment ``fixed``.

    Expected is what ONNX's reference evaluator says; where ONNX Runtime agrees with the artifact, the evaluator is
    wrong. A refusal that is documented is nothing wrong. Raises what else compiling or running raises.
    """
    model, which = graph.model(fixed), assignments(fixed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = run_artifact(model, [graph.feeds(i) for i in which], Path(folder), level)
        except KilnError as error:
            if REFUSALS[COPIED_SIZE] in error.message:
                return {}
            raise
    problems: dict[str, str] = {}
    for i, results in zip(which, found, strict=True):
        names, expected = [v.name for v in graph.outputs], [v.arrays[i] for v in graph.outputs]
        for comparison in compare_all(names, expected, results):
            if comparison.problem is not None:
                problems.setdefault(comparison.name, f"sizes {i}: {comparison.problem}")
        for name in [name for name in problems if name in names]:
            position = names.index(name)
            if runtime_agrees(graph.of_output(graph.outputs[position]), i, results[position]):
                del problems[name]
    return problems


def runtime_agrees(part: Graph, assignment: int, found: Array) -> bool:
    """Whether ONNX Runtime computes ``found`` too, for a graph with one output."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(part.model(assignment).SerializeToString(), options)
        expected = session.run(None, part.feeds(assignment))
    except Exception:
        return False
    return compare_all(["y"], [np.asarray(expected[0])], [found])[0].problem is None
