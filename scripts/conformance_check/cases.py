"""The tests that the installed onnx brings: node, simple, PyTorch and the light forms of real models.

They are what ``onnx.backend.test.BackendTest`` runs, with its tolerances; nothing is left out by name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test import loader, runner

KINDS = ("node", "real", "simple", "pytorch-converted", "pytorch-operator")

DataSet = tuple[list[Any], list[Any]]
"""Inputs in the order of the graph's and the outputs expected; a value is an array, a list of them, or None."""


@dataclass(frozen=True)
class Case:
    """One test of ONNX's. ``test`` is its own record of it: a model in memory, or where the files lie."""

    name: str
    kind: str
    test: Any

    @property
    def rtol(self) -> float:
        return float(self.test.rtol)

    @property
    def atol(self) -> float:
        return float(self.test.atol)

    def model(self) -> onnx.ModelProto:
        """The model, read from its file where it has one."""
        return self.test.model if self.test.model is not None else onnx.load(self._path())

    def data_sets(self, model: onnx.ModelProto) -> Iterator[DataSet]:
        """The inputs and expected outputs of each run."""
        if self.test.data_sets is not None:
            for inputs, outputs in self.test.data_sets:
                yield [_array(value) for value in inputs], [_array(value) for value in outputs]
        elif self.test.model_dir is not None:
            for folder in sorted(Path(self.test.model_dir).glob("test_data_set*")):
                yield _read(folder, "input", model.graph.input), _read(folder, "output", model.graph.output)
        else:
            yield self._light(model)

    def _path(self) -> Path:
        if self.test.model_dir is not None:
            return Path(self.test.model_dir) / "model.onnx"
        return Path(loader.DATA_DIR).parents[3] / self.test.url

    def _light(self, model: onnx.ModelProto) -> DataSet:
        """A real network whose weights are made by ConstantOfShape: ONNX's runner feeds it a ramp."""
        held = {tensor.name for tensor in model.graph.initializer}
        inputs = [
            runner.Runner.generate_dummy_data(value, seed=0, name=self.name, random=False)
            for value in model.graph.input
            if value.name not in held
        ]
        files = [self._path().with_suffix("") for _ in model.graph.output]
        paths = [path.with_name(f"{path.name}_output_{index}.pb") for index, path in enumerate(files)]
        return inputs, [_parse(path, value.type) for path, value in zip(paths, model.graph.output)]


def load_cases(pattern: str | None = None) -> list[Case]:
    """All tests, or those whose name or operators match the regular expression ``pattern``."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # making the cases overflows and divides by zero on purpose
        cases = [Case(test.name, kind, test) for kind in KINDS for test in loader.load_model_tests(kind=kind)]
    cases.sort(key=lambda case: (KINDS.index(case.kind), case.name))
    return [case for case in cases if pattern is None or re.search(pattern, case.name)]


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators of the main graph, each once, in order; with the domain unless it is ai.onnx."""
    names = (f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.node)
    return list(dict.fromkeys(names))


def subject(case: Case) -> list[str]:
    """What the failures are grouped by: the operators of a model of a few nodes, else the test's own name."""
    found = operators(case.model())
    return found if len(found) <= 3 else [f"({case.name})"]


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read(folder: Path, role: str, declared: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    count = len(list(folder.glob(f"{role}_*.pb")))
    return [_parse(folder / f"{role}_{index}.pb", declared[index].type) for index in range(count)]


def _parse(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))
