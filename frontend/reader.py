"""Reading a model file with words for everything that can be wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google.protobuf.message
import onnx
import onnx_ir as ir

from ..errors import ModelError
from .external_data import DataFiles, attach
from .model_tensors import MAX_BYTES, MAX_NODES, Held, check_tensors, count_nodes

MAX_OPSET = onnx.defs.onnx_opset_version()


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from: recorded in the artifact.

    ``sha256`` covers the file's bytes; ``external`` holds (location, sha256) of each file with tensors beside it.
    """

    path: Path
    sha256: str
    ir_version: int
    opsets: dict[str, int]
    producer: str
    external: tuple[tuple[str, str], ...] = ()


def read_model(path: Path, files: DataFiles, max_bytes: int = MAX_BYTES) -> tuple[ir.Model, ModelSource]:
    """Parse and check the file at ``path``; tensors in other files are mapped through ``files``.

    Raises ModelError when it is missing, truncated, no ONNX, of an opset that is unknown here, too large, or invalid.
    """
    data = _bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    proto = _parsed(path, data)
    del data  # large models need the memory
    _check_versions(path, proto)
    external = _check_contents(path, proto, max_bytes)
    for held in external:
        files.span(held)
    with _shown_to_checker(proto, external):
        _check(path, proto)
    _check_order(path, proto.graph, set())
    _share_types(proto.graph)
    try:
        model = ir.from_proto(proto)
        attach(model, files)
    except Exception as error:
        raise ModelError(f"{path}: the graph can't be read: {error}") from error
    opsets = {item.domain or "ai.onnx": item.version for item in proto.opset_import}
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    return model, ModelSource(path, digest, proto.ir_version, opsets, producer, files.digests())


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise ModelError(f"{path}: the model file {found}", hint="give the path of a .onnx file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the model file can't be read: {error.strerror}") from error


def _parsed(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(data)
    except (google.protobuf.message.DecodeError, ValueError) as error:
        raise ModelError(
            f"{path}: not a readable ONNX file ({error})", hint="is the file complete? export or download it again"
        ) from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{path}: holds no graph", hint="is it an ONNX file, and complete?")
    return proto


def _check_versions(path: Path, proto: onnx.ModelProto) -> None:
    for item in proto.opset_import:
        if item.version < 1:
            raise ModelError(f"{path}: opset {item.version} of {item.domain or 'ai.onnx'} does not exist")
        if item.domain in ("", "ai.onnx") and item.version > MAX_OPSET:
            raise ModelError(
                f"{path}: needs ai.onnx opset {item.version}; the installed onnx knows up to {MAX_OPSET}",
                hint="export with an older opset, or install a newer onnx",
            )


def _check_contents(path: Path, proto: onnx.ModelProto, max_bytes: int) -> list[Held]:
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise ModelError(f"{path}: initializer {name!r} is sparse, which is not supported yet", hint="store it dense")
    try:
        if (nodes := count_nodes(proto)) > MAX_NODES:
            raise ModelError(f"has {nodes} nodes, more than the {MAX_NODES} that are taken")
        return check_tensors(proto, max_bytes)
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}", hint=error.hint) from error


@contextmanager
def _shown_to_checker(proto: onnx.ModelProto, external: Sequence[Held]) -> Iterator[None]:
    """The model as ONNX's checker can take it.

    External tensors have no elements, as it would look for their files in the current folder. Inputs and outputs that
    leave out their shape, as ONNX Runtime allows, have one.
    """
    tensors, bare = [], []
    for held in external:
        tensor = held.tensor
        tensors.append((tensor, list(tensor.dims), tensor.data_location, list(tensor.external_data)))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.dims[:] = [0]
    for value in [*proto.graph.input, *proto.graph.output]:
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()
            bare.append(value.type.tensor_type)
    try:
        yield
    finally:
        for tensor, dims, location, entries in tensors:
            tensor.dims[:] = dims
            tensor.data_location = location
            tensor.external_data.extend(entries)
        for kind in bare:
            kind.ClearField("shape")


def _check(path: Path, proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        words = str(error).split("\n\n==> Context")[0].strip()
        if "No Op registered for" in words or "No opset import" in words:
            return  # reported with every other unsupported node, by name, before conversion
        raise ModelError(f"{path}: not a valid ONNX model: {words}") from error


def _share_types(graph: onnx.GraphProto) -> None:
    """An input given back as it is keeps the shape it is declared with: as one value, the output's would count."""
    inputs = {value.name: value for value in graph.input}
    for value in graph.output:
        if value.name in inputs:
            value.type.CopyFrom(inputs[value.name].type)


def _check_order(path: Path, graph: onnx.GraphProto, outer: set[str]) -> None:
    """Every value is made before it is used: the checker stops at the first operator that it doesn't know."""
    known = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        missing = next((name for name in node.input if name not in known), None)
        if missing is not None:
            name = node.name or (node.output[0] if node.output else "")
            raise ModelError(f"{path}: node {name!r} ({node.op_type}) reads {missing!r}, which nothing before it makes")
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                _check_order(path, inner, known)
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"{path}: output {value.name!r} is made by no node")
