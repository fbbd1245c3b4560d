"""ONNX Runtime as the judge: a model's outputs, or inner values of its graph."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError, ToolchainError
from .bisection import GraphNode

_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float", "double")
_HOLDERS = {f"tensor({name})" for name in ("bool", *_NUMBERS)}
"""Types that ONNX Runtime gives as NumPy arrays of the same type."""


class Reference:
    """One model file; external data is read by ONNX Runtime from the model's folder."""

    def __init__(self, path: Path, threads: int | None = None):
        """Raises ToolchainError without ONNX and ONNX Runtime, ModelError for a file that isn't readable."""
        self._path = path
        self._threads = threads
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ToolchainError(
                f"verifying needs ONNX Runtime: {error}", hint="pip install onnx onnxruntime"
            ) from error
        self._runtime, self._onnx = onnxruntime, onnx
        try:
            self._model = self._onnx.load(path, load_external_data=False)
        except Exception as error:
            raise ModelError(f"{path}: not a readable ONNX file: {error}") from error
        self._infos = {info.name: copy.deepcopy(info) for info in self._model.graph.output}
        self.outputs = list(self._infos)
        """The names of the model's outputs, in order."""

    def nodes(self) -> list[GraphNode]:
        """The nodes of the main graph that compute something, in the file's order."""
        return [
            GraphNode(
                position,
                node.name or next(filter(None, node.output), ""),
                node.op_type,
                node.domain or "ai.onnx",
                tuple(dict.fromkeys(filter(None, [*node.input, *_captured(node)]))),
                tuple(filter(None, node.output)),
            )
            for position, node in enumerate(self._model.graph.node)
            if node.op_type != "Constant"
        ]

    def run(self, feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The named values, or the model's outputs; values that NumPy can't hold (sequences, bfloat16) are left out.

        Raises ModelError when ONNX Runtime refuses the model, InputError when it refuses the feeds.
        """
        session = self._session(names)
        wanted = [output.name for output in session.get_outputs() if output.type in _HOLDERS]
        try:
            return dict(zip(wanted, session.run(wanted, dict(feeds)), strict=True)) if wanted else {}
        except Exception as error:
            raise InputError(
                f"ONNX Runtime can't run {self._path} on these inputs: {error}",
                hint="give inputs that the model takes (--input), or sizes of its open dims (--dim)",
            ) from error

    def _session(self, names: Sequence[str] | None) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, in the same words
        options.intra_op_num_threads = self._threads or 0
        folder = str(self._path.resolve().parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        try:
            content = self._with_outputs(self.outputs if names is None else names)
            return self._runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"ONNX Runtime can't open {self._path}: {error}") from error

    def _with_outputs(self, names: Sequence[str]) -> bytes:
        graph = self._model.graph
        del graph.output[:]
        graph.output.extend(self._infos.get(name) or self._onnx.ValueInfoProto(name=name) for name in names)
        return self._model.SerializeToString()


def _captured(node: Any) -> Iterator[str]:
    """Outer values that the node's inner graphs read."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from _read_from_outside(graph)


def _read_from_outside(graph: Any) -> Iterable[str]:
    own = {value.name for value in [*graph.input, *graph.initializer]}
    own |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in [*node.input, *_captured(node)]]
    read += [value.name for value in graph.output]
    return dict.fromkeys(name for name in read if name not in own)
