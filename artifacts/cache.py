"""The build cache: is what an output folder holds already what a compile would write there?

An artifact's manifest keeps what was asked for (``describe_request``). When that, the model's bytes and the files of
the artifact are unchanged, compiling again would give the same bytes, and is left out.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract import DimRange
from ..errors import ArtifactError, UsageError
from ..targets import Target, parse
from ..versions import FFI_VERSION, TVM_VERSION, VERSION, installed
from .decode import DecodeError
from .linking import find_compiler
from .manifest import Manifest, Source, check_path
from .opening import OpenArtifact

Shapes = Mapping[str, Sequence[int | str | DimRange | None]]

_ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("artifacts", "frontend", "passes", "quantization", "schedules", "tuning")
_SOURCES = {".c", ".h", ".json", ".jsonl", ".ll", ".py"}
_FOLDING = ("numpy", "onnx", "onnx-ir", "onnxscript")
_CUDA = ("nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cuda-cccl")


def describe_request(target: str, shapes: Shapes | None, level: str, **options: Any) -> dict[str, Any]:
    """All that decides, beside the model, what a compile writes, as plain JSON and without paths or times.

    ``options`` are further ones whose values JSON can hold (``calibrate`` may be any data); those that are None, or
    empty, are left out. Raises UsageError for an
    unknown target and ToolchainError when there is no C compiler for it.
    """
    targets = parse(target)
    options["calibrate"] = describe_data(options.get("calibrate"))
    if options.get("metric") not in (None, "agreement", "cosine"):
        options["metric"] = describe_data(options["metric"])
    return {
        "target": target,
        "machines": [_machine(one) for one in targets],
        "level": level,
        "shapes": {name: [_dim(dim) for dim in dims] for name, dims in sorted((shapes or {}).items())},
        **{name: value for name, value in sorted(options.items()) if value not in (None, [])},
        "versions": _versions(_CUDA if any(one.is_gpu for one in targets) else ()),
        "linkers": sorted({_linker(find_compiler(one)) for one in targets}),
        "compiler": _sources_digest(),
    }


def describe_data(data: Any) -> Any:
    """Calibration data as plain JSON: what it is by its content, not where it lies; None for None.

    A function's data is known by its name and its module's source. What has to be run to be known is new every time.
    """
    if data is None:
        return None
    if not isinstance(data, (str, os.PathLike)):
        return {"in memory": secrets.token_hex(8)}
    path = Path(data)
    if path.is_file():
        return {"file": _digest(path)}
    if path.is_dir():
        return {"files": {file.name: _digest(file) for file in sorted(path.iterdir()) if file.is_file()}}
    return {"function": os.fspath(data), "module": _module_digest(os.fspath(data).partition(":")[0])}


def _module_digest(name: str) -> str | None:
    """The digest of a module's file, found without importing it: in a package, that of the package's ``__init__``."""
    found = importlib.machinery.PathFinder.find_spec(name.partition(".")[0], [os.getcwd(), *sys.path])
    return _digest(Path(found.origin)) if found is not None and found.origin and Path(found.origin).is_file() else None


def is_current(
    output: Path,
    model: Path,
    request: Mapping[str, Any],
    further: Callable[[Manifest], list[str]] = lambda manifest: [],
) -> bool:
    """Whether ``output`` is a whole artifact, made from ``model`` as it is now and from this ``request``.

    ``further`` gives, in words, other differences than the request's.

    False when there is nothing to judge: no artifact there, one that doesn't say what it was made from, no such model.
    Raises UsageError, saying what differs, when ``output`` is another build's artifact, or damaged.
    """
    try:
        artifact = OpenArtifact(output)
    except ArtifactError:
        return False
    with artifact:
        manifest = artifact.manifest
        if manifest.request is None or not model.is_file():
            return False
        differences = _differences(manifest, model, request) or further(manifest)
        if differences:
            raise UsageError(
                f"output {output} exists and was made otherwise: {'; '.join(differences)}",
                hint="choose another output, or replace it with --force (force=True)",
            )
        try:
            artifact.verify(full=True)
        except ArtifactError as error:
            raise UsageError(
                f"output {output} exists and is damaged: {error.message}", hint="replace it with --force (force=True)"
            ) from error
    return True


def changed_source(source: Source, model: Path) -> str | None:
    """What differs between ``model``, with its external data, and the model that an artifact was made from; or None."""
    found = _digest(model)
    if found != source.sha256:
        return f"the model is another one (sha256 {found[:12]}... instead of {source.sha256[:12]}...)"
    # The same bytes name the same files; an artifact's list of them is data like any other, so its paths are checked.
    for location, expected in source.external.items():
        try:
            check_path(location)
            found = _digest(model.parent / location)
        except (DecodeError, OSError) as error:
            return f"the model's data file {location!r} can't be read: {error}"
        if found != expected:
            return f"the model's data file {location!r} has changed"
    return None


def _differences(manifest: Manifest, model: Path, request: Mapping[str, Any]) -> list[str]:
    made = manifest.request or {}
    changed = changed_source(manifest.source, model)
    differences = [changed] if changed else []
    for key in sorted(made.keys() | request.keys()):
        then, now = made.get(key), request.get(key)
        if then == now:
            continue
        if key == "compiler":
            differences.append("onnxkiln's own source has changed")
        else:
            differences.append(f"{key}: {_shown(then)} then, {_shown(now)} now")
    return differences


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _machine(target: Target) -> dict[str, Any]:
    machine = {**target.tvm_json(), "l1": target.l1, "l2": target.l2}
    return {**machine, "gpus": [gpu.name for gpu in target.gpus]} if target.is_gpu else machine


def _dim(dim: int | str | DimRange | None) -> int | str | list[int | None] | None:
    return [dim.minimum, dim.maximum] if isinstance(dim, DimRange) else dim


def shapes_of(request: Mapping[str, Any]) -> dict[str, list[int | str | DimRange | None]]:
    """The shapes that a request was made with."""
    return {
        name: [DimRange(*dim) if isinstance(dim, list) else dim for dim in dims]
        for name, dims in request["shapes"].items()
    }


def _versions(more: Sequence[str]) -> dict[str, str | None]:
    ours = {"onnxkiln": VERSION, "apache-tvm": TVM_VERSION, "apache-tvm-ffi": FFI_VERSION}
    return {**ours, **{name: installed(name) for name in (*_FOLDING, *more)}}


@functools.cache
def _linker(compiler: str) -> str:
    result = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return next(iter(result.stdout.splitlines()), "of unknown version")


@functools.cache
def _sources_digest() -> str:
    """One digest over every file of the compiler: in a checkout, the version alone says too little."""
    digest = hashlib.sha256()
    for path in _source_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    yield from sorted(_ROOT.glob("*.py"))
    for folder in _FOLDERS:
        yield from sorted(path for path in (_ROOT / folder).rglob("*") if path.suffix in _SOURCES)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
