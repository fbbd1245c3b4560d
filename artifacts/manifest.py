"""``manifest.json``: what an artifact is made of, and the digest of every other file in it.

Compatibility: ``schema`` is "MAJOR.MINOR". A reader accepts its own major with any minor: fields that it doesn't
know are ignored, fields that an older minor lacks take their defaults. Another major is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..contract import Contract
from ..errors import IntegrityError, VersionError
from ..gpus import DeviceKernel
from .cubin import KernelUse
from .decode import DecodeError, decode

FILE_NAME = "manifest.json"
FORMAT = "onnxkiln-artifact"
SCHEMA = (1, 3)
"""1.1 added ``request``, 1.2 ``device``, 1.3 ``activations``."""

ALIGNMENT = 64
"""Every weight starts at a multiple of this many bytes: a cache line, and the widest vector register."""

MAX_BYTES = 256 * 1024 * 1024
"""No manifest is longer; what claims to be is not read."""

ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip
"""Bytes of one element of each dtype that an artifact may hold."""


@dataclass(frozen=True)
class Versions:
    """What made the artifact. The Relax VM's bytecode has a version of its own, fixed by ``tvm``."""

    onnxkiln: str
    tvm: str
    ffi: str


@dataclass(frozen=True)
class Source:
    """The model that was compiled: file name, sha256 of the file, of each external data file, opsets by domain."""

    name: str
    sha256: str
    opsets: Mapping[str, int] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """One shared library. ``isa`` is a level of ``targets.ISAS``; a host needs every one of ``features``."""

    path: str
    isa: str
    features: tuple[str, ...]
    target: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Weight:
    """One tensor of the weights file: little-endian, C order, ``offset`` a multiple of 64."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Weights:
    """The weights file and its tensors in the order in which the compiled function takes them."""

    path: str
    tensors: tuple[Weight, ...]


@dataclass(frozen=True)
class PassReport:
    """One compiler pass: how often it applied (None where it can't count). No times: same input, same bytes."""

    name: str
    applied: int | None


@dataclass(frozen=True)
class Kernel:
    """One compiled function: ``kind`` is "template", "generic" or "external"; ``calls`` counts its call sites."""

    name: str
    kind: str
    template: str | None = None
    vectorized: bool = False
    calls: int = 1


@dataclass(frozen=True)
class DeviceCode:
    """The kernels for one GPU architecture (compute capability times ten).

    ``form`` is "cubin", machine code, or "ptx", which the driver of this and every later architecture compiles;
    ``uses`` says for machine code what each kernel takes.
    """

    path: str
    form: str
    architecture: int
    uses: tuple[KernelUse, ...] = ()


@dataclass(frozen=True)
class Device:
    """The GPU's part of an artifact. ``toolkit`` is the version of CUDA that made it, ``runtime`` TVM's library that
    starts kernels."""

    toolkit: str
    codes: tuple[DeviceCode, ...]
    kernels: tuple[DeviceKernel, ...]
    runtime: str | None = None


@dataclass(frozen=True)
class Activations:
    """What a session's activations and outputs take in memory: ``bytes``, or a ``formula`` over the inputs' open dims
    in Python's operators; neither where a size is computed while running."""

    bytes: int | None = None
    formula: str | None = None


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact: POSIX path inside the folder, sha256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """All of it. ``runtime`` is the bundled TVM runtime's path; ``threads`` the physical cores compiled for;
    ``request`` what was asked for (``cache.describe_request``); ``device`` is None for code that runs on processors."""

    created_by: Versions
    source: Source
    level: str
    contract: Contract
    libraries: tuple[Library, ...]
    weights: Weights
    files: tuple[FileEntry, ...]
    passes: tuple[PassReport, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    activations: Activations | None = None
    runtime: str | None = None
    threads: int = 1
    quantization: Mapping[str, Any] | None = None
    tuning_records: tuple[Mapping[str, Any], ...] = ()
    request: Mapping[str, Any] | None = None
    device: Device | None = None
    format: str = FORMAT
    schema: str = f"{SCHEMA[0]}.{SCHEMA[1]}"

    def file(self, path: str) -> FileEntry:
        """The entry of a path that ``check`` has seen."""
        return next(entry for entry in self.files if entry.path == path)

    def to_bytes(self) -> bytes:
        """UTF-8 JSON, keys in the order of the fields: the same manifest gives the same bytes."""
        return (json.dumps(_plain(self), indent=1, ensure_ascii=False) + "\n").encode()


def from_bytes(data: bytes) -> Manifest:
    """Parse and check. Raises IntegrityError (not a sound manifest) or VersionError (another major version)."""
    remake = "copy the artifact again, or compile it anew"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{FILE_NAME} is damaged: {error}", hint=remake) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise IntegrityError(f"{FILE_NAME} is not an onnxkiln artifact's (no format {FORMAT!r})", hint=remake)
    _check_schema(document.get("schema"))
    try:
        manifest = decode(Manifest, document)
        _check(manifest)
    except DecodeError as error:
        raise IntegrityError(f"{FILE_NAME} is damaged: {error}", hint=remake) from error
    return manifest


def _check_schema(schema: object) -> None:
    match = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", schema) if isinstance(schema, str) else None
    if match is None:
        raise IntegrityError(f"{FILE_NAME}: schema {schema!r} is not a version", hint="compile the artifact anew")
    if int(match[1]) != SCHEMA[0]:
        raise VersionError(
            f"{FILE_NAME} has schema {schema}; this onnxkiln reads {SCHEMA[0]}.*",
            hint="compile the model with this onnxkiln, or load it with the one that made it",
        )


def _check(manifest: Manifest) -> None:
    """What the types don't say. Raises DecodeError."""
    listed = [entry.path for entry in manifest.files]
    if listed != sorted(set(listed)):
        raise DecodeError("files: paths must be sorted and unique")
    for entry in manifest.files:
        check_path(entry.path)
        if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256) or entry.size < 0:
            raise DecodeError(f"files: {entry.path}: bad sha256 or size")
    used = [manifest.weights.path, *(library.path for library in manifest.libraries)]
    used += [manifest.runtime] if manifest.runtime else []
    if manifest.device:
        used += [code.path for code in manifest.device.codes]
        used += [manifest.device.runtime] if manifest.device.runtime else []
        _check_device(manifest.device)
    for path in used:
        if path not in listed:
            raise DecodeError(f"{path!r} is used but not among files")
    if not manifest.libraries:
        raise DecodeError("libraries: empty")
    if manifest.threads < 1:
        raise DecodeError(f"threads: {manifest.threads}")
    _check_contract(manifest.contract)
    _check_weights(manifest)


def _check_device(device: Device) -> None:
    if not re.fullmatch(r"\d{1,4}\.\d{1,4}", device.toolkit):
        raise DecodeError(f"device: toolkit {device.toolkit!r} is not a version")
    for code in device.codes:
        if code.form not in ("cubin", "ptx") or code.architecture < 1:
            raise DecodeError(f"device: {code.path}: {code.form!r} for architecture {code.architecture}")
    if not device.codes and device.kernels:
        raise DecodeError("device: kernels without code")


def _check_contract(contract: Contract) -> None:
    for spec in (*contract.inputs, *contract.outputs):
        where = f"contract: {spec.name!r}"
        if not isinstance(spec.name, str) or spec.dtype not in ITEM_BYTES:
            raise DecodeError(f"{where}: unknown dtype {spec.dtype!r}, or no name")
        if not all(isinstance(dim, str) or (type(dim) is int and dim >= 0) for dim in spec.shape):
            raise DecodeError(f"{where}: {list(spec.shape)} is not a shape")
    if len({spec.name for spec in contract.inputs}) != len(contract.inputs):
        raise DecodeError("contract: two inputs of one name")
    for name, bounds in contract.dims.items():
        if type(bounds.minimum) is not int or type(bounds.maximum) not in (int, type(None)):
            raise DecodeError(f"contract: dim {name!r}: {bounds} is not a range")


def _check_weights(manifest: Manifest) -> None:
    size = manifest.file(manifest.weights.path).size
    for weight in manifest.weights.tensors:
        where = f"weights: {weight.name!r}"
        if weight.dtype not in ITEM_BYTES:
            raise DecodeError(f"{where}: unknown dtype {weight.dtype!r}")
        if any(dim < 0 for dim in weight.shape):
            raise DecodeError(f"{where}: negative dim in {weight.shape}")
        if weight.nbytes != math.prod(weight.shape) * ITEM_BYTES[weight.dtype]:
            raise DecodeError(f"{where}: {weight.nbytes} bytes for {weight.dtype}{list(weight.shape)}")
        if weight.offset < 0 or weight.offset % ALIGNMENT or weight.offset + weight.nbytes > size:
            raise DecodeError(f"{where}: offset {weight.offset} + {weight.nbytes} bytes in a file of {size}")


def check_path(path: str) -> None:
    """Raise DecodeError unless ``path`` is a plain relative POSIX path that stays inside its folder."""
    parts = PurePosixPath(path).parts
    plain = path and path == "/".join(parts) and "\\" not in path and "\0" not in path
    if not plain or path.startswith("/") or ".." in parts or path == FILE_NAME:
        raise DecodeError(f"files: {path!r} is not a path inside the artifact")


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
