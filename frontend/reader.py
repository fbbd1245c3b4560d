"""Reading a model file with words for everything that can be wrong with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import google.protobuf.message
import onnx
import onnx_ir as ir

from ..errors import ModelError

MAX_OPSET = onnx.defs.onnx_opset_version()


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from: recorded in the artifact. ``sha256`` covers the file's bytes."""

    path: Path
    sha256: str
    ir_version: int
    opsets: dict[str, int]
    producer: str


def read_model(path: Path) -> tuple[ir.Model, ModelSource]:
    """Parse and check the file at ``path``.

    Raises ModelError when it is missing, truncated, no ONNX, of an opset that is unknown here, or invalid.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"{path}: the model file {found}", hint="give the path of a .onnx file")
    data = path.read_bytes()
    try:
        proto = onnx.load_model_from_string(data)
    except (google.protobuf.message.DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not a readable ONNX file ({error})", hint="is the file complete? export or download it again") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{path}: holds no graph", hint="is it an ONNX file, and complete?")
    _check_versions(path, proto)
    _check(path, proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:
        raise ModelError(f"{path}: the graph can't be read: {error}") from error
    opsets = {item.domain or "ai.onnx": item.version for item in proto.opset_import}
    digest = hashlib.sha256(data).hexdigest()
    return model, ModelSource(path, digest, proto.ir_version, opsets, f"{proto.producer_name} {proto.producer_version}".strip())


def _check_versions(path: Path, proto: onnx.ModelProto) -> None:
    for item in proto.opset_import:
        if item.domain in ("", "ai.onnx") and item.version > MAX_OPSET:
            raise ModelError(
                f"{path}: needs ai.onnx opset {item.version}; the installed onnx knows up to {MAX_OPSET}",
                hint="export with an older opset, or install a newer onnx",
            )


def _check(path: Path, proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        words = str(error).split("\n\n==> Context")[0].strip()
        if "No Op registered for" in words or "No opset import" in words:
            return  # reported with every other unsupported node, by name, before conversion
        raise ModelError(f"{path}: not a valid ONNX model: {words}") from error
