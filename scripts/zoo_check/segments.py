"""A quantized model cut at its integer tensors, so that each part is judged on ONNX Runtime's own values.

A float next to a half rounds to either side, and the quantum goes on growing through the layers behind. So the whole
model says little about one layer. Here every integer tensor that ONNX Runtime computes is given out by it, and is an
input of what comes after it in the model that is compiled: no part sees what another one rounded. What remains is at
most one quantum, from floats whose last bit differs; sums of integers must be equal, floats within their tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper

import onnxkiln
from onnxkiln.compare import compare
from zoo_check.cases import Feeds
from zoo_check.spread import session

Array = npt.NDArray[Any]
GIVEN = "given."
"""Prefix of an input that takes the place of a computed tensor."""
SUMS = ("ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class Parts:
    """How the parts of a model did: ``tensors`` compared, ``elements`` of them in 8 bits, ``apart`` of those one
    quantum away; ``problems`` is empty where nothing is further away."""

    tensors: int
    elements: int
    apart: int
    problems: list[str]


def cuts(model: onnx.ModelProto) -> list[str]:
    """The tensors of the main graph that hold integers, and the ranges that belong to them."""
    found = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear", *SUMS) or node.op_type.startswith("QLinear"):
            found += [name for name in node.output if name]
    kept = {output.name for output in model.graph.output}
    return [name for name in found if name not in kept]


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model that gives out these tensors too; their types are inferred by who loads it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.output.extend(onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names)
    return made


def divided(model: onnx.ModelProto, values: Feeds) -> onnx.ModelProto:
    """The model whose tensors ``values`` are read from inputs named ``given.NAME``, and given out as computed."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for node in made.graph.node:
        for position, name in enumerate(node.input):
            if name in values:
                node.input[position] = GIVEN + name
    read = {name for node in made.graph.node for name in node.input}
    for name, array in values.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        made.graph.output.append(onnx.helper.make_tensor_value_info(name, element, [None] * array.ndim))
        if GIVEN + name in read:
            made.graph.input.append(onnx.helper.make_tensor_value_info(GIVEN + name, element, array.shape))
    del made.graph.value_info[:]
    return made


def check_parts(path: Path, feeds: Sequence[Feeds], folder: Path) -> Parts:
    """Compile the divided model for the sizes of the first feeds, run it on all of the same sizes."""
    model = onnx.load(path)
    names = cuts(model)
    reference = session(with_outputs(model, names).SerializeToString())
    outputs = [output.name for output in reference.get_outputs()]
    shapes = {name: array.shape for name, array in feeds[0].items()}
    runs = [feed for feed in feeds if {name: array.shape for name, array in feed.items()} == shapes]
    expected = [dict(zip(outputs, map(np.asarray, reference.run(None, feed)), strict=True)) for feed in runs]
    pieces = divided(model, {name: expected[0][name] for name in names})
    source = folder / f"{path.stem}.divided.onnx"
    onnx.save(pieces, source)
    fixed = {name: list(shape) for name, shape in shapes.items()}
    artifact = onnxkiln.compile(source, folder / f"{path.stem}.divided", shapes=fixed, force=True)
    elements, apart, problems = 0, 0, []
    with onnxkiln.load(artifact) as compiled:
        inputs = [item.name for item in compiled.get_inputs()]
        order = [item.name for item in compiled.get_outputs()]
        for feed, wanted in zip(runs, expected, strict=True):
            given = {**feed, **{GIVEN + name: wanted[name] for name in names}}
            found = compiled.run(None, {name: given[name] for name in inputs})
            for name, ours in zip(order, found, strict=True):
                problem, near = judge_part(name, ours, wanted[name])
                elements, apart = elements + (ours.size if ours.dtype.itemsize == 1 else 0), apart + near
                problems += [problem] if problem else []
    return Parts(len(order), elements, apart, problems)


def judge_part(name: str, found: Array, expected: Array) -> tuple[str | None, int]:
    """(what is wrong, how many elements are one quantum away)."""
    if found.dtype != expected.dtype or found.shape != expected.shape or found.dtype.itemsize != 1:
        return _named(name, compare(name, expected, found).problem), 0
    away = np.abs(found.astype(np.int32) - expected.astype(np.int32))
    largest = int(away.max(initial=0))
    problem = f"{name}: {int((away > 1).sum())} of {away.size} elements up to {largest} quanta away"
    return (problem if largest > 1 else None), int((away == 1).sum())


def _named(name: str, problem: str | None) -> str | None:
    return problem and f"{name}: {problem}"
