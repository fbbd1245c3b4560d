"""onnxkiln: ONNX in, a tuned shared library out, loaded by a thin loader that needs neither TVM nor ONNX.

Importing this package is cheap: the compiler (with TVM and ONNX) is imported by the first ``compile``, the loader
(with NumPy and tvm_ffi) by the first ``load``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contract import DimRange
from .errors import KilnError
from .versions import VERSION, check_compiler

if TYPE_CHECKING:
    from .artifacts.session import Session

__version__ = VERSION
UP_TO_DATE = "up to date"
"""The stage that ``compile`` reports when there is nothing to do."""

__all__ = ["UP_TO_DATE", "DimRange", "KilnError", "__version__", "compile", "load"]


def compile(
    model: str | PathLike[str],
    output: str | PathLike[str],
    *,
    target: str = "cpu",
    shapes: Mapping[str, Sequence[int | str | DimRange | None]] | None = None,
    level: str = "O2",
    tune: str | None = None,
    log: str | PathLike[str] | None = None,
    shipped_log: bool = True,
    seed: int = 0,
    precision: str | None = None,
    quantize: str | None = None,
    calibrate: Any = None,
    calibrator: str | None = None,
    exclude: Sequence[str] = (),
    max_drop: str | float | None = None,
    metric: Any = None,
    improve: Sequence[str] = (),
    prefer: str | None = None,
    save_calibration: str | PathLike[str] | None = None,
    dump_ir: str | PathLike[str] | None = None,
    force: bool = False,
    include_runtime: bool = True,
    max_bytes: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    reports: list[Any] | None = None,
    tuned: list[Any] | None = None,
    observer: Callable[[Any], None] | None = None,
) -> Path:
    """Compile an ONNX file into an artifact folder and return the folder's path.

    ``shapes`` maps input names to shapes: an int fixes a dim, a str names an open one, a ``DimRange`` bounds one, None
    and inputs that aren't mentioned keep the model's dims. ``level`` is O0 to O3. ``dump_ir`` names a folder that
    receives the module after each pass. ``force`` replaces an existing artifact. ``include_runtime=False`` leaves TVM's
    runtime library out. ``max_bytes`` bounds what the model's tensors may take (None: 64 GiB); one that promises more
    is refused before any of it is read. ``quantize="int8"`` computes layers in integers whose ranges come from
    ``calibrate``: a file (.npz, or what ``save_calibration`` wrote), a folder of such, "module:function", a function,
    or samples as dicts of arrays; ``calibrator`` says how, ``exclude`` names nodes ("op:Conv": operators) that stay in
    floating point. ``quantize="int8-dynamic"`` needs no data. ``max_drop`` ("1%" of the float model's value, or a
    number) bounds how far ``metric`` may fall ("agreement" or "cosine" with the float model on the calibration data,
    "module:function", or a function of a session): layers stay in floating point until that holds.
    ``improve`` takes "equalize" (ranges across layers), "smooth" (SmoothQuant), "bias" (bias correction).
    ``prefer="size"`` (default "speed") rounds tables that rows are taken from, such as embeddings, to int8 too.

    ``progress`` is called as ``progress(stage, done, total)``; ``reports`` is a list that gets an object per pass, with
    its ``name``, how often it ``applied`` (or None), and its ``seconds``. An ``output`` that was made from the same
    model, options, versions and compiler is left as it is: the only stage is then ``UP_TO_DATE``.

    ``precision``, for GPUs, is what products and convolutions multiply on tensor cores: "tf32" or "fp16", with sums in
    float32.

    Kernels are scheduled by the tuning log: ``log`` names its file (None: the user's, or that of $ONNXKILN_LOG; "none":
    no file), ``shipped_log=False`` leaves out the one that comes with the package. ``tune``, "60s" or "200t", is the
    time or the number of measurements to spend on kernels that this machine has not measured yet; ``seed`` decides
    which candidates are tried by chance. ``tuned`` is a list that gets an object for each target with what was
    ``chosen``, the ``measurements`` made and the ``log_hits``; ``observer`` is called with a snapshot after each.

    Raises ``KilnError`` (see ``onnxkiln.errors``): what happened, where, and what to do.
    """
    check_compiler()
    options: dict[str, Any] = {
        "target": target,
        "shapes": shapes,
        "level": level,
        "precision": precision,
        "quantize": quantize,
        "calibrate": calibrate,
        "calibrator": calibrator,
        "exclude": list(exclude),
        "max_drop": None if max_drop is None else str(max_drop),
        "metric": metric,
        "improve": list(improve),
        "prefer": prefer,
        "include_runtime": include_runtime,
    }
    if not force and dump_ir is None and save_calibration is None:
        from .artifacts.cache import describe_request, is_current

        # Asked before the compiler is imported: with TVM that takes longer than the answer.
        def records_differ(manifest: Any) -> list[str]:
            from .targets import parse
            from .tuned_records import changed_records, open_log

            with open_log(log, shipped_log) as records:
                return changed_records(manifest.tuning_records, parse(target), records, tune is not None)

        if is_current(Path(output), Path(model), describe_request(**options), records_differ):
            if progress is not None:
                progress(UP_TO_DATE, 1, 1)
            return Path(os.path.abspath(output))
    from .compiler import compile as compile_model

    dump = None if dump_ir is None else Path(dump_ir)
    rest: dict[str, Any] = {"dump_ir": dump, "force": force, "progress": progress, "reports": reports}
    rest |= {"tune": tune, "log": log, "shipped_log": shipped_log, "seed": seed, "tuned": tuned, "observer": observer}
    if max_bytes is not None:
        rest["max_bytes"] = max_bytes
    if save_calibration is not None:
        rest["save_calibration"] = Path(save_calibration)
    return compile_model(Path(model), Path(output), **options, **rest)


def load(
    path: str | PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    verify: str = "full",
) -> Session:
    """Open an artifact folder and return a ``Session`` with the habits of ONNX Runtime's.

    Loading runs native code: open only artifacts whose origin you trust. ``verify="full"`` checks every file's digest
    before anything is opened, ``"size"`` only its size. ``threads`` is the number of threads that each run may use.

    Raises ``ArtifactError`` (integrity, version or instruction set) before any code of the artifact runs.
    """
    from .artifacts.loader import load as load_artifact

    return load_artifact(path, device=device, threads=threads, verify=verify)
