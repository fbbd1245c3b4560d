"""Tensors whose bytes lie in other files: opened once, safely, and mapped instead of copied.

The file must lie in the model's folder: every part of its path is opened relative to the one before and never through
a link, so neither ``..`` nor a symbolic link nor a swap between check and use leads elsewhere. Hard links are refused,
as they can name a file from anywhere.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import ModelError
from .model_tensors import Held, byte_size

_NO_LINKS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_HINT = "put the file, not a link to it, beside the model, and name it by a relative path"


@dataclass(frozen=True)
class Span:
    """Where a tensor's bytes are."""

    location: str
    offset: int
    length: int


@dataclass
class DataFile:
    """One open file. ``descriptor`` stays open so that its state can be compared at the end."""

    descriptor: int
    opened: os.stat_result
    view: memoryview


class DataFiles:
    """The external files of one model; use as a context manager around everything that reads tensors."""

    def __init__(self, model_path: Path):
        self.model_path = model_path
        self._files: dict[str, DataFile] = {}

    def __enter__(self) -> DataFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file.descriptor)

    def span(self, held: Held) -> Span:
        """Check one tensor's reference and open its file. Raises ModelError."""
        location, offset, length = _reference(held)
        size = len(self._open(location, held).view)
        promised = byte_size(held)
        length = promised if length is None else length
        if length != promised:
            raise ModelError(
                f"{self._at(held)}: its dims need {promised} bytes, {length} are said to be in {location!r}"
            )
        if offset + length > size:
            raise ModelError(
                f"{self._at(held)}: bytes {offset} to {offset + length} of {location!r}, which has {size}",
                hint="is the file complete? download or export it again",
            )
        return Span(location, offset, length)

    def bytes_of(self, span: Span) -> memoryview:
        return self._files[span.location].view[span.offset : span.offset + span.length]

    def digests(self) -> tuple[tuple[str, str], ...]:
        """(location, sha256) of each file, in order of location."""
        return tuple((name, hashlib.sha256(file.view).hexdigest()) for name, file in sorted(self._files.items()))

    def check_unchanged(self) -> None:
        """Raises ModelError if a file was written to since it was opened."""
        for location, file in self._files.items():
            now = os.fstat(file.descriptor)
            if (now.st_size, now.st_mtime_ns) != (file.opened.st_size, file.opened.st_mtime_ns):
                raise ModelError(f"{self.model_path}: {location!r} changed while it was read", hint="compile it again")

    def _open(self, location: str, held: Held) -> DataFile:
        if location not in self._files:
            parts = self._parts(location, held)
            try:
                descriptor = _open_beneath(self.model_path.parent, parts)
            except OSError as error:
                raise ModelError(
                    f"{self._at(held)}: {location!r} can't be opened: {error.strerror}", hint=_HINT
                ) from error
            self._files[location] = self._checked(descriptor, location, held)
        return self._files[location]

    def _parts(self, location: str, held: Held) -> list[str]:
        parts = location.split("/")
        wrong = not location or any(part in ("", ".", "..") for part in parts) or any(c in location for c in "\0\\:")
        if wrong or os.path.isabs(location):
            raise ModelError(f"{self._at(held)}: {location!r} is no path within the model's folder", hint=_HINT)
        return parts

    def _checked(self, descriptor: int, location: str, held: Held) -> DataFile:
        state = os.fstat(descriptor)
        problem = None
        if not stat.S_ISREG(state.st_mode):
            problem = "is no regular file"
        elif state.st_nlink > 1:
            problem = f"has {state.st_nlink} hard links"
        if problem:
            os.close(descriptor)
            raise ModelError(f"{self._at(held)}: {location!r} {problem}", hint=_HINT)
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if state.st_size else b""
        return DataFile(descriptor, state, memoryview(mapped))

    def _at(self, held: Held) -> str:
        return f"{self.model_path}: {held.where}"


def _open_beneath(folder: Path, parts: Sequence[str]) -> int:
    """Open a file below ``folder``, following no link."""
    current = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        for part in parts[:-1]:
            inner = os.open(part, _NO_LINKS | getattr(os, "O_DIRECTORY", 0), dir_fd=current)
            os.close(current)
            current = inner
        # Without O_NONBLOCK a named pipe would wait for a writer.
        return os.open(parts[-1], _NO_LINKS | getattr(os, "O_NONBLOCK", 0), dir_fd=current)
    finally:
        os.close(current)


def _reference(held: Held) -> tuple[str, int, int | None]:
    """(location, offset, length) as the tensor says them."""
    entries: dict[str, str] = {}
    for entry in held.tensor.external_data:
        if entry.key in entries:
            raise ModelError(f"{held.where}: {entry.key!r} of its external data is given twice")
        entries[entry.key] = entry.value
    if "location" not in entries:
        raise ModelError(f"{held.where}: its external data names no file")
    numbers = []
    for key in ("offset", "length"):
        text = entries.get(key, "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ModelError(f"{held.where}: {key} {text[:40]!r} of its external data is no size in bytes")
        numbers.append(int(text) if text else None)
    return entries["location"], numbers[0] or 0, numbers[1]


def attach(model: ir.Model, files: DataFiles) -> None:
    """Give the model views of the mapped files in place of tensors that would open a path again."""
    for graph in _graphs(model):
        if isinstance(graph, ir.Graph):
            for value in graph.initializers.values():
                if isinstance(value.const_value, ir.ExternalTensor):
                    value.const_value = _mapped(value.const_value, files)
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                    node.attributes[name] = ir.AttrTensor(name, _mapped(attribute.value, files))


def _graphs(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    pending: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    pending.append(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS:
                    pending += attribute.as_graphs()


def _mapped(tensor: ir.ExternalTensor, files: DataFiles) -> ir.TensorProtocol:
    length = (tensor.size * tensor.dtype.bitwidth + 7) // 8
    data = files.bytes_of(Span(str(tensor.location), tensor.offset or 0, length))
    shape = tuple(tensor.shape.numpy())
    if tensor.dtype.bitwidth < 8:  # packed; such tensors are unpacked by onnx-ir
        packed = onnx.TensorProto(name=tensor.name, data_type=int(tensor.dtype), dims=shape, raw_data=bytes(data))
        return ir.serde.deserialize_tensor(packed)
    array = np.frombuffer(data, np.dtype(tensor.dtype.numpy()).newbyteorder("<")).reshape(shape)
    return ir.Tensor(array, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
