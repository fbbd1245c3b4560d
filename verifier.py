"""Does an artifact compute what ONNX Runtime computes? If not, which node is the first whose value differs?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import targets
from .artifacts.cache import changed_source, describe_request, shapes_of
from .artifacts.loader import load
from .artifacts.manifest import Manifest
from .artifacts.random_feeds import random_feeds
from .compare import Comparison, compare
from .errors import InputError, KilnError, ModelError, UsageError
from .verification.bisection import Finding, ProbeFailed, find_first
from .verification.reference import Reference
from .verification.value_statistics import ValueStatistics, Worst, statistics_of, worst_of
from .versions import check_compiler

Progress = Callable[[str], None]
"""Called with a line about what goes on."""

Values = Mapping[str, np.ndarray]

QUANTIZED = (
    "the artifact was quantized when it was compiled, so that it differs from a float model by design: compare it with "
    "the model that onnxkiln quantize --onnx writes (--force), of the same calibration file"
)


@dataclass(frozen=True)
class Difference:
    """A value that differs, in numbers. ``expected`` is ONNX Runtime's, ``found`` the artifact's."""

    problem: str
    expected: ValueStatistics
    found: ValueStatistics
    worst: Worst | None


@dataclass(frozen=True)
class VerifyReport:
    """``outputs`` compared one by one; where one differs, ``finding`` is the first differing node (or nodes).

    ``library`` is the artifact's that ran, the one for this processor. ``difference`` is that of ``finding.value``.
    ``inputs`` has dtypes and shapes; ``notes`` say what the reader should know, such as why no node is named.
    """

    artifact: str
    library: str
    model: str
    inputs: Mapping[str, str]
    outputs: tuple[Comparison, ...]
    finding: Finding | None = None
    difference: Difference | None = None
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every output agrees."""
        return all(output.problem is None for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return {"agrees": self.agrees, **asdict(self)}


def verify(
    artifact: str | Path,
    model: str | Path,
    feeds: Values | None = None,
    *,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    threads: int | None = None,
    force: bool = False,
    bisect: bool = True,
    progress: Progress | None = None,
) -> VerifyReport:
    """Run ``artifact`` and, through ONNX Runtime, ``model`` on the same ``feeds``, and compare all outputs.

    Floats agree within ``1e-3*|b| + 1e-4*max(1, max|b|)`` of ONNX Runtime's ``b``; integers, shapes, dtypes and the
    places of NaN and infinities must be equal. Without ``feeds`` they are random (``seed``; ``sizes`` of open dims). On
    a difference the model is compiled again, with inner values as outputs, until the first wrong node is found.

    Raises UsageError when ``model`` isn't the artifact's source (unless ``force``), ToolchainError without ONNX
    Runtime, ModelError where it refuses the model, InputError where one refuses the feeds, ArtifactError.
    """
    artifact, model = Path(artifact), Path(model)
    with load(artifact, threads=threads) as session:
        manifest, library = session.manifest, session.library
        session.contract.require_tensors("only models of tensors can be verified")
        notes = _check_source(manifest, model, force)
        if manifest.quantization is not None:
            notes.append(QUANTIZED)
        used = dict(feeds) if feeds is not None else random_feeds(session.contract, sizes or {}, seed)
        reference = Reference(model, threads)
        expected = reference.run(used)
        found: Values = {}
        try:
            found = dict(zip(reference.outputs, session.run(None, used), strict=True))
        except InputError:
            raise
        except KilnError as error:
            notes.append(error.message)
    report = VerifyReport(
        str(artifact),
        library,
        str(model),
        {name: f"{array.dtype}{list(array.shape)}" for name, array in used.items()},
        tuple(_compare(name, expected, found) for name in reference.outputs),
        notes=tuple(notes),
    )
    if report.agrees or not bisect or not found or manifest.quantization is not None:
        return report
    search = _Search(manifest, library, reference, used, progress or (lambda _line: None))
    return search.explain(report, expected, found)


def _check_source(manifest: Manifest, model: Path, force: bool) -> list[str]:
    if not model.is_file():
        raise ModelError(f"{model}: no such model file", hint="give the path of the .onnx file that was compiled")
    changed = changed_source(manifest.source, model)
    if changed is None:
        return []
    if not force:
        raise UsageError(
            f"{model} is not what the artifact was made from: {changed}",
            hint=f"give the model that was compiled ({manifest.source.name}), or compare all the same with --force",
        )
    return [f"compared although {changed}"]


def _compare(name: str, expected: Values, found: Values) -> Comparison:
    if name not in expected:
        return Comparison(name, "ONNX Runtime gives no array for a value of this type: it can't be compared")
    if name not in found:
        return Comparison(name, "the artifact gave no outputs")
    return compare(name, expected[name], found[name])


class _Search:
    """Finds the first differing node: probes inner values by compiling the model with them as its outputs."""

    def __init__(self, manifest: Manifest, library: str, reference: Reference, feeds: Values, say: Progress):
        self._manifest = manifest
        self._reference = reference
        self._feeds = feeds
        self._say = say
        self._target = _target_of(manifest, library)
        self._differences: dict[str, Difference] = {}

    def explain(self, report: VerifyReport, expected: Values, found: Values) -> VerifyReport:
        """``report`` with its finding, or with a note that says why there is none."""
        nodes = self._reference.nodes()
        makers = {name: node for node in nodes for name in node.outputs}
        differing = self._note_differences(expected, found)
        first = min((name for name in differing if name in makers), key=lambda n: makers[n].position, default=None)
        if first is None:
            return _noted(report, "no node makes an output that differs")
        try:
            check_compiler()
            from . import compiler
        except (KilnError, ImportError) as error:
            return _noted(report, f"no node is named, as that takes the compiler: {error}")
        finding = find_first(nodes, first, lambda names: self._probe(compiler.compile, Path(report.model), names))
        report = replace(report, finding=finding, difference=self._differences[finding.value])
        return _noted(report, *_remarks(finding, self._made_otherwise()))

    def _note_differences(self, expected: Values, found: Values) -> list[str]:
        """The values that differ, with their statistics kept."""
        differing = []
        for name in expected.keys() & found.keys():
            problem = compare(name, expected[name], found[name]).problem
            if problem is not None:
                ours, theirs = statistics_of(found[name]), statistics_of(expected[name])
                self._differences[name] = Difference(problem, theirs, ours, worst_of(expected[name], found[name]))
                differing.append(name)
        return differing

    def _probe(self, compile_model: Callable[..., Path], model: Path, names: Sequence[str]) -> dict[str, bool]:
        """Whether each value differs; values that ONNX Runtime can't give are left out. Raises ProbeFailed."""
        self._say(f"compiling up to {names[-1]!r}, with {len(names) - 1} values on the way as outputs")
        try:
            expected = self._reference.run(self._feeds, names)
            asked = [name for name in names if name in expected]
            found = self._compiled(compile_model, model, asked) if asked else {}
        except KilnError as error:
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            raise ProbeFailed(error.message) from error
        differing = self._note_differences(expected, found)
        return {name: name in differing for name in asked}

    def _compiled(self, compile_model: Callable[..., Path], model: Path, names: list[str]) -> Values:
        request = self._manifest.request
        contract = self._manifest.contract
        shapes = shapes_of(request) if request else {spec.name: list(spec.shape) for spec in contract.inputs}
        with tempfile.TemporaryDirectory(prefix="onnxkiln-verify-") as scratch:
            artifact = compile_model(
                model,
                Path(scratch) / "probe",
                target=self._target,
                shapes=shapes or None,
                level=self._manifest.level,
                include_runtime=False,
                outputs=names,
            )
            with load(artifact, verify="size") as session:
                return dict(zip(names, session.run(None, self._feeds), strict=True))

    def _made_otherwise(self) -> bool:
        """Whether another build of the compiler, or other versions, made the artifact."""
        made = self._manifest.request
        if made is None:
            return True
        now = describe_request(self._target, None, self._manifest.level)
        return any(made.get(key) != now[key] for key in ("compiler", "versions"))


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: TVM rewraps what crosses its C++ code, and keeps the name as text."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _target_of(manifest: Manifest, path: str) -> str:
    """The target that a library was compiled for, in the user's words."""
    library = next(library for library in manifest.libraries if library.path == path)
    asked = targets.parse(manifest.request["target"]) if manifest.request else []
    for target in [*asked, targets.host()]:
        if (target.isa.name, target.required_features) == (library.isa, library.features):
            return target.name
    return f"cpu:{library.isa}"


def _noted(report: VerifyReport, *notes: str) -> VerifyReport:
    return replace(report, notes=(*report.notes, *notes))


def _remarks(finding: Finding, made_otherwise: bool) -> Iterator[str]:
    if finding.failure is not None:
        yield f"no node is named, as the model can't be compiled up to {finding.value!r} alone: {finding.failure}"
    elif not finding.reproduced:
        yield (
            f"compiled anew and cut off at {finding.value!r}, the model agrees with ONNX Runtime, so no node is named: "
            "the difference is this artifact's alone, or arises only when what follows is compiled along"
        )
    elif len(finding.nodes) > 1:
        yield "the search could not get between these nodes: the difference arises in one of them, or in their fusion"
    if made_otherwise:
        yield "the artifact was made by another version or build of the compiler than the one that searched"
