"""Open an artifact: check everything, load one library for this machine, map the weights."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .. import targets
from ..errors import IsaError, UsageError
from .manifest import Library, Manifest
from .opening import OpenArtifact

if TYPE_CHECKING:
    from .driver import Driver, GpuDevice
    from .session import Session

_VERIFY = ("full", "size")


def load(
    path: str | os.PathLike[str], *, device: str = "auto", threads: int | None = None, verify: str = "full"
) -> Session:
    """Load the artifact folder ``path``.

    ``device`` is "cpu", "cuda:N" or "auto": the processor, or the first GPU for an artifact that was compiled for
    GPUs; ``Session.device`` says what is in use. ``threads`` bounds the threads of one ``run`` (None: this machine's
    physical cores); ``verify`` is "full" (digests of all files) or "size". Nothing of the artifact runs before
    manifest, files, versions and instruction set have been checked. Loading then runs native code: do it only with
    artifacts from a source you trust.

    Raises UsageError, ArtifactError and its subclasses IntegrityError, VersionError, IsaError, DeviceError.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda:\d{1,3}", device):
        raise UsageError(f"device {device!r} is not supported", hint="use 'auto', 'cpu', or 'cuda:0' and so on")
    if verify not in _VERIFY:
        raise UsageError(f"verify must be one of {', '.join(_VERIFY)}; found {verify!r}")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise UsageError(f"threads must be a positive number; found {threads!r}")
    with OpenArtifact(Path(path)) as artifact:
        gpu = _find_gpu(artifact, device)
        library = choose_library(artifact.manifest)
        with _Verification(artifact, full=verify == "full"):
            from .starting import start_session  # NumPy and tvm_ffi, which take as long as digests do
        return start_session(artifact, library, threads, gpu)


def _find_gpu(artifact: OpenArtifact, device: str) -> tuple[Driver, GpuDevice] | None:
    """The driver and the GPU to use, for an artifact with kernels; None for one that runs on processors."""
    if artifact.manifest.device is None:
        if device.startswith("cuda"):
            raise UsageError(
                f"{artifact.path} is compiled for processors; it can't run on {device}",
                hint="compile the model with --target cuda, or load it with device='auto'",
            )
        return None
    if device == "cpu":
        raise UsageError(
            f"{artifact.path} is compiled for GPUs; it can't run on the processor",
            hint="compile the model with --target cpu, or load it with device='auto'",
        )
    from .driver import Driver, choose_device

    driver = Driver()
    return driver, choose_device(driver, device)


class _Verification:
    """Checks the artifact in a thread while the block runs, and raises at its end what the check raised."""

    def __init__(self, artifact: OpenArtifact, full: bool):
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(artifact, full), name="onnxkiln verification")

    def _run(self, artifact: OpenArtifact, full: bool) -> None:
        try:
            artifact.verify(full)
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_failure: object) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


def choose_library(manifest: Manifest) -> Library:
    """The best library that this machine can run. Raises IsaError, saying what it lacks for each."""
    ranked = sorted(manifest.libraries, key=_rank, reverse=True)
    lacking = {}
    for library in ranked:
        missing = targets.missing_features(library.features)
        if not missing:
            return library
        lacking[library.isa] = missing
    lines = "; ".join(f"{isa} needs {', '.join(missing)}" for isa, missing in lacking.items())
    architecture = targets.host_architecture()
    raise IsaError(
        f"this processor ({architecture}) lacks instructions that the artifact's code uses: {lines}",
        hint=f"compile the model with a target that it has: {_runnable()}",
    )


def _rank(library: Library) -> tuple[int, int]:
    isa = targets.ISAS.get(library.isa)
    return (isa.rank if isa else 0), len(library.features)


def _runnable() -> str:
    features = targets.host_features()
    names = [f"cpu:{isa.name}" for isa in targets.ISAS.values() if isa.features <= features]
    return ", ".join(names) or "none that onnxkiln knows"
