"""Write an artifact folder: libraries, weights, runtime, and the manifest last."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Contract
from ..errors import ArtifactError, ToolchainError
from ..explanation import Explanation
from ..targets import Target
from ..versions import FFI_VERSION, TVM_VERSION, VERSION
from . import manifest as format_
from .device import DeviceBuild
from .explained import FILE_NAME as EXPLANATIONS_FILE
from .explained import write_explanations
from .linking import Exportable, link
from .manifest import Activations, Device, FileEntry, Kernel, Library, Manifest, PassReport, Source, Versions
from .staging import refuse_existing, staged_folder
from .weights import write_weights

WEIGHTS_FILE = "weights.bin"
RUNTIME_FILE = "runtime/libtvm_runtime.so"
DEVICE_RUNTIME_FILE = "runtime/libtvm_runtime_cuda.so"


@dataclass(frozen=True)
class ExportRequest:
    """Everything that goes into an artifact.

    ``libraries`` pairs each target with its compiled executable; all take the same ``weights``, whose order is the
    order of the entry function's weights array. The executable's ``main(*inputs, weights)`` returns an array.
    """

    libraries: Sequence[tuple[Target, Exportable]]
    weights: Sequence[tuple[str, np.ndarray]]
    contract: Contract
    source: Source
    level: str
    passes: Sequence[PassReport] = ()
    explanations: Sequence[Explanation] = ()
    activations: Activations | None = None
    kernels: Sequence[Kernel] = ()
    quantization: Mapping[str, Any] | None = None
    tuning_records: Sequence[Mapping[str, Any]] = ()
    include_runtime: bool = True
    request: Mapping[str, Any] | None = None
    device: DeviceBuild | None = None


def export(request: ExportRequest, output: Path, force: bool = False) -> Path:
    """Write ``request`` as the folder ``output``, whole or not at all, and return it.

    Raises UsageError when the output exists (without ``force``) or is being written by another process,
    ToolchainError when a library can't be linked, CompileError when a weight can't be stored, ArtifactError when the
    disk refuses.
    """
    output = _absolute(output)
    try:
        with staged_folder(output, force) as folder:
            _write(folder, request)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise ArtifactError(
            f"the artifact {output} can't be written: {error.strerror or error}{where}",
            hint="check free space and permissions",
        ) from error
    return output


def _write(folder: Path, request: ExportRequest) -> None:
    libraries = [_link(folder, request, index) for index in range(len(request.libraries))]
    weights, weights_entry = write_weights(folder, WEIGHTS_FILE, request.weights)
    runtime = _copy_runtime(folder, RUNTIME_FILE) if _wants_runtime(request) else None
    device = _write_device(folder, request.device, runtime is not None) if request.device else None
    paths = [library.path for library in libraries] + ([runtime] if runtime else []) + _device_paths(device)
    if request.explanations:
        write_explanations(folder, request.explanations)
        paths.append(EXPLANATIONS_FILE)
    files = [weights_entry, *(_entry(folder, path) for path in paths)]
    manifest = Manifest(
        created_by=Versions(VERSION, TVM_VERSION, FFI_VERSION),
        source=request.source,
        level=request.level,
        contract=request.contract,
        libraries=tuple(libraries),
        weights=weights,
        files=tuple(sorted(files, key=lambda entry: entry.path)),
        passes=tuple(request.passes),
        kernels=tuple(request.kernels),
        activations=request.activations,
        runtime=runtime,
        threads=request.libraries[0][0].threads,
        quantization=request.quantization,
        tuning_records=tuple(request.tuning_records),
        request=request.request,
        device=device,
    )
    data = manifest.to_bytes()
    format_.from_bytes(data)  # What is written must be readable: a defect shows here, not at a user's.
    (folder / format_.FILE_NAME).write_bytes(data)


def check_output(output: Path, force: bool = False) -> None:
    """Raise the UsageError with which ``export`` would refuse ``output`` now: to ask before compiling for minutes."""
    refuse_existing(_absolute(output), force)


def _absolute(output: Path) -> Path:
    # Not resolve(): an output that is a symbolic link must be seen as one.
    return Path(os.path.abspath(output))


def _link(folder: Path, request: ExportRequest, index: int) -> Library:
    target, executable = request.libraries[index]
    path = "model.so" if len(request.libraries) == 1 else f"model.{target.isa.name}.so"
    link(executable, target, folder / path)
    return Library(path, target.isa.name, target.required_features, target.tvm_json())


def _wants_runtime(request: ExportRequest) -> bool:
    # The wheel's runtime is this machine's: of no use to another architecture.
    return request.include_runtime and all(target.is_native for target, _ in request.libraries)


def _write_device(folder: Path, built: DeviceBuild, with_runtime: bool) -> Device:
    for path, data in built.files:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    return replace(built.device, runtime=_copy_runtime(folder, DEVICE_RUNTIME_FILE) if with_runtime else None)


def _device_paths(device: Device | None) -> list[str]:
    if device is None:
        return []
    return [code.path for code in device.codes] + ([device.runtime] if device.runtime else [])


def _copy_runtime(folder: Path, path: str) -> str:
    package = importlib.util.find_spec("tvm")
    if package is None or package.origin is None:
        raise ToolchainError("TVM is not installed", hint=f"pip install apache-tvm=={TVM_VERSION}")
    source = Path(package.origin).parent / "lib" / Path(path).name
    if not source.is_file():
        raise ToolchainError(f"{source} is missing: TVM's installation is damaged", hint="install apache-tvm again")
    (folder / path).parent.mkdir(exist_ok=True)
    shutil.copyfile(source, folder / path)
    return path


def _entry(folder: Path, path: str) -> FileEntry:
    with open(folder / path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(path, digest.hexdigest(), file.tell())
