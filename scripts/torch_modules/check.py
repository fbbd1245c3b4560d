"""Exports one module, compiles the file, runs it beside PyTorch and ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

import onnxkiln
from onnxkiln.errors import KilnError

from .sample import DYNAMO, TORCHSCRIPT, Sample

torch.set_num_threads(1)  # and none that a fork would lose

EXPORTERS = (DYNAMO, TORCHSCRIPT)
RIGHT, WRONG, REFUSED, NOT_EXPORTED = "right", "wrong answer", "refused", "not exported by torch"
NOT_TORCH = "the file is not the module"
"""ONNX Runtime gives our answer, which isn't PyTorch's, or refuses the file or the size that we refuse: the exporter's
doing."""


@dataclass(frozen=True)
class Result:
    """``detail`` says where the largest difference lies, or what was refused."""

    name: str
    exporter: str
    opset: int
    outcome: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name} {self.exporter} opset {self.opset}: {self.outcome}; {self.detail}"


def export(sample: Sample, exporter: str, opset: int, path: Path) -> None:
    """Write ``sample`` as ONNX with its dims open, by the exporter named."""
    module, feeds = sample.module(), sample.feeds(sample.sizes[0])
    common: dict[str, Any] = {"input_names": sample.input_names, "opset_version": opset, "verbose": False}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet():
        warnings.simplefilter("ignore")
        if exporter == DYNAMO:
            torch.onnx.export(module, feeds, path, dynamo=True, dynamic_shapes=tuple(map(dict, sample.dims)), **common)
        else:
            traced = torch.jit.script(module) if sample.scripted else module
            axes = {name: dict(dims) for name, dims in zip(sample.input_names, sample.dims, strict=True)}
            torch.onnx.export(traced, feeds, path, dynamo=False, dynamic_axes=axes, **common)


def export_apart(sample: Sample, exporter: str, opset: int, path: Path) -> str:
    """``export`` in a forked child, as one export can spoil the next (open lengths); what torch said, or nothing."""
    context = multiprocessing.get_context("fork")
    said: Any = context.SimpleQueue()
    child = context.Process(target=_export_and_say, args=(said, sample, exporter, opset, path))
    child.start()
    child.join()
    return said.get() if not said.empty() else f"the exporting process ended with {child.exitcode}"


def _export_and_say(said: Any, sample: Sample, exporter: str, opset: int, path: Path) -> None:
    try:
        export(sample, exporter, opset, path)
        said.put("")
    except Exception as error:  # whatever torch raises
        said.put(_words(error))


@contextlib.contextmanager
def _quiet() -> Any:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def check(sample: Sample, exporter: str, opset: int, folder: Path, keep_answers: bool = False) -> Result:
    """Export, compile, run at every size; with ``keep_answers``, ``record``."""
    path = folder / f"{sample.name}.{exporter}.{opset}.onnx"
    failure = export_apart(sample, exporter, opset, path)
    if failure:
        return Result(sample.name, exporter, opset, NOT_EXPORTED, failure)
    if keep_answers:
        record(sample, path)
    artifact = folder / f"{path.stem}.kiln"
    try:
        onnxkiln.compile(path, artifact, force=True)
        outcome, detail = compare(sample, path, artifact)
    except KilnError as error:
        outcome, detail = (REFUSED if _loads(path) else NOT_TORCH), _words(error)
    finally:
        shutil.rmtree(artifact, ignore_errors=True)
    return Result(sample.name, exporter, opset, outcome, detail)


def record(sample: Sample, path: Path) -> None:
    """Beside the exported file, an ``.npz`` of inputs ("0.input_0") and of PyTorch's outputs ("0.output_0") by size."""
    arrays: dict[str, np.ndarray] = {}
    for number, sizes in enumerate(sample.sizes):
        feeds = sample.feeds(sizes)
        arrays |= {f"{number}.{name}": feed.numpy() for name, feed in zip(sample.input_names, feeds, strict=True)}
        arrays |= {f"{number}.output_{index}": array for index, array in enumerate(answers(sample.module(), feeds))}
    without_traces(path)
    np.savez_compressed(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]


def without_traces(path: Path) -> None:
    """Drop from the file where in whose folders each node was made."""
    model = onnx.load(path, load_external_data=False)
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            node.doc_string = ""
            kept = [entry for entry in node.metadata_props if "stack_trace" not in entry.key]
            del node.metadata_props[:]
            node.metadata_props.extend(kept)
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    onnx.save(model, path)


def answers(module: torch.nn.Module, feeds: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """PyTorch's own outputs."""
    with torch.no_grad():
        return [tensor.numpy() for tensor in _flat(module(*(feed.clone() for feed in feeds)))]


def compare(sample: Sample, path: Path, artifact: Path) -> tuple[str, str]:
    """Run the artifact at every size beside PyTorch and, where they differ, ONNX Runtime."""
    module = sample.module()
    worst = 0.0
    with onnxkiln.load(artifact) as compiled:
        names = [item.name for item in compiled.get_inputs()]
        for sizes in sample.sizes:
            feeds = sample.feeds(sizes)
            named = dict(zip(names, (feed.numpy() for feed in feeds), strict=True))
            wanted = answers(module, feeds)
            found = attempt(compiled, named)
            problem, share = difference(found, wanted, sample.slack)
            if problem:
                peer = difference(found, attempt(_onnxruntime(path), named), sample.slack)[0]
                where = f"{dict(sizes)}: {problem}"
                return (WRONG, f"{where}; and against ONNX Runtime: {peer}") if peer else (NOT_TORCH, where)
            worst = max(worst, share)
    return RIGHT, f"{worst:.2g} of the tolerance"


def attempt(session: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """The outputs of a session of ours or of ONNX Runtime's, or None where it refuses the feeds."""
    try:
        return session.run(None, feeds)
    except Exception:  # KilnError, and whatever ONNX Runtime raises
        return None


def _onnxruntime(path: Path) -> onnxruntime.InferenceSession | None:
    """A session, or None where ONNX Runtime does not take the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:  # it has no common base for them
        return None


def _loads(path: Path) -> bool:
    return _onnxruntime(path) is not None


def difference(
    found: Sequence[np.ndarray] | None, wanted: Sequence[np.ndarray] | None, slack: float = 1.0
) -> tuple[str, float]:
    """A problem in words (empty if none) and the largest share of the tolerance
    ``slack * (1e-4*|b| + 1e-5*max(1, max|b|))``."""
    worst = 0.0
    if found is None or wanted is None:
        return ("" if found is wanted else "refused" if found is None else "not refused"), worst
    if len(found) != len(wanted):
        return f"{len(found)} outputs, not {len(wanted)}", worst
    for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return f"output {index}: {ours.dtype}{ours.shape}, not {theirs.dtype}{theirs.shape}", worst
        if not np.issubdtype(theirs.dtype, np.floating):
            if not np.array_equal(ours, theirs):
                return f"output {index}: {np.sum(ours != theirs)} of {theirs.size} elements differ", worst
            continue
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        fine = slack * (1.0 if theirs.dtype != np.float16 else 20.0)
        finite = np.abs(b[np.isfinite(b)])
        bound = fine * (1e-4 * np.abs(b) + 1e-5 * max(1.0, finite.max(initial=0.0)))
        with np.errstate(invalid="ignore"):
            off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b) / bound)
        share = float(off.max(initial=0.0))
        if not share <= 1:
            return f"output {index}: {share:.3g} times the tolerance", worst
        worst = max(worst, share)
    return "", worst


def _flat(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else [tensor for part in outputs for tensor in _flat(part)]


def _words(error: BaseException) -> str:
    while error.__cause__ is not None and not isinstance(error, KilnError):
        error = error.__cause__  # torch wraps what happened into advice
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[:3])[:300] if lines else type(error).__name__
