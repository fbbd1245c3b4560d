"""The story on one page: import, quantize, optimize, schedule, build, export."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .algorithms import Algorithms, Spent, left_of
from .artifacts import nvrtc
from .artifacts.cache import describe_request
from .artifacts.device import DeviceBuild, compile_device
from .artifacts.export import ExportRequest, check_output, export
from .artifacts.loader import load
from .artifacts.manifest import Activations, Kernel, PassReport, Source
from .artifacts.session import Session
from .contract import Contract
from .errors import CompileError, UsageError
from .frontend import ImportedModel, Rewrite, import_model
from .frontend.model_tensors import MAX_BYTES
from .frontend.normalize import UserShapes
from .passes.lift_weights import lift_weights
from .passes.lower import build
from .passes.lower_gpu import build_gpu
from .passes.pipeline import Pipeline, StepReport, steps_for
from .passes.plan_memory import activation_bytes
from .passes.schedule_functions import KernelReport, explain_kernels, finished_reports, schedule_functions
from .quantization.settings import settings_of
from .quantizer import quantize as quantize_model
from .schedules import winograd_plan
from .targets import Target, parse, with_precision
from .tuned_records import open_log, record_class
from .tuner import Tuned, Tuning, tune_module
from .tuning.budget import Budget, parse_budget
from .tuning.rpc import Rpc
from .tuning.session import Observer

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def compile(
    model: str | Path,
    output: str | Path,
    *,
    target: str = "cpu",
    shapes: UserShapes | None = None,
    level: str = "O2",
    tune: str | None = None,
    log: str | None = None,
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
    save_calibration: Path | None = None,
    dump_ir: str | Path | None = None,
    force: bool = False,
    include_runtime: bool = True,
    outputs: Sequence[str] | None = None,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
    reports: list[StepReport] | None = None,
    tuned: list[Tuned] | None = None,
    observer: Observer | None = None,
) -> Path:
    """Compile the ONNX file ``model`` into the artifact folder ``output`` and return its path.

    ``shapes`` maps input names to dims: an int fixes one, a ``DimRange`` bounds it, a str names it. ``dump_ir`` is a
    folder for the module after each pass. ``outputs`` names values of the graph to give instead of its own outputs.
    ``precision`` is as ``targets.with_precision`` takes it, ``quantize`` to ``prefer`` as ``quantization.settings``;
    ``save_calibration`` is a file for what calibration found. ``max_bytes`` bounds what the model's tensors take.
    ``reports`` is a list that gets each pass's name, how often it applied, and its seconds. ``tune`` is a budget such
    as "60s" or "200t"; ``log`` the tuning log's path, "none", or None for the user's; ``tuned`` is a list that gets,
    for each target, what was chosen and measured.
    Raises KilnError: UsageError, ModelError, InputError (calibration data), LogError, CompileError, ToolchainError.
    """
    budget = None if tune is None else parse_budget(tune)
    targets = with_precision(parse(target), precision)
    _check_gpus(targets, tune=tune, quantize=quantize)
    settings = settings_of(quantize, calibrate, calibrator, exclude, max_drop, metric, improve, prefer)
    steps_for(level)
    check_output(Path(output), force)
    asked = describe_request(
        target, shapes, level, precision=precision, quantize=quantize, calibrate=calibrate, calibrator=calibrator,
        exclude=list(exclude), max_drop=None if max_drop is None else str(max_drop), metric=metric,
        improve=list(improve), prefer=prefer, include_runtime=include_runtime,
        outputs=None if outputs is None else list(outputs),
    )  # fmt: skip
    report = progress or (lambda _stage, _done, _total: None)
    quantized = None
    if settings is not None:
        quantized = quantize_model(settings, Workbench(Path(model), shapes, level, max_bytes), report)
    report("import", 0, 1)
    rewrite = quantized.rewrite if quantized is not None else None
    imported = import_model(model, shapes, outputs=outputs, max_bytes=max_bytes, rewrite=rewrite)
    report("import", 1, 1)
    if quantized is not None and save_calibration is not None:
        quantized.save(save_calibration)
    dump = Path(dump_ir) if dump_ir is not None else None
    pipeline = Pipeline(level, dump)
    with open_log(log, shipped_log, write=budget is not None) as records:
        tuning = Tuning(records, budget, seed, observer=observer)
        made, chosen = _compile_for(imported, targets, pipeline, include_runtime, report, tuning)
    if tuned is not None:
        tuned += chosen
    if reports is not None:
        reports += pipeline.reports
    report_of = quantized.report if quantized is not None else None
    return export(replace(made, request=asked, quantization=report_of), Path(output), force)


@dataclass(frozen=True)
class Workbench:
    """Builds of ``model`` on this machine (see ``calibration.Workbench``)."""

    model: Path
    shapes: UserShapes | None = None
    level: str = "O2"
    max_bytes: int = MAX_BYTES

    @contextmanager
    def opened(self, rewrite: Rewrite, check: Callable[[Contract], None]) -> Iterator[Session]:
        imported = import_model(self.model, self.shapes, max_bytes=self.max_bytes, rewrite=rewrite)
        check(imported.contract)
        with self._built(imported) as session:
            yield session

    @contextmanager
    def opened_file(self, path: Path) -> Iterator[Session]:
        with self._built(import_model(path)) as session:
            yield session

    def visit(self, look: Rewrite) -> None:
        import_model(self.model, self.shapes, max_bytes=self.max_bytes, rewrite=look)

    @contextmanager
    def _built(self, imported: ImportedModel) -> Iterator[Session]:
        made, _ = _compile_for(imported, parse("cpu"), Pipeline(self.level, None), False, lambda *_: None)
        with tempfile.TemporaryDirectory(prefix="onnxkiln-quantize-") as folder:
            artifact = export(made, Path(folder) / "artifact", False)
            with load(artifact, verify="size") as session:
                yield session


def _compile_for(
    imported: ImportedModel,
    targets: list[Target],
    pipeline: Pipeline,
    include_runtime: bool,
    report: Progress,
    tuning: Tuning | None = None,
) -> tuple[ExportRequest, list[Tuned]]:
    report("optimize", 0, 1)
    module, weights, algorithms, spent = _optimize(imported, targets[0], pipeline, tuning)
    tuning = tuning and replace(tuning, budget=left_of(tuning.budget, spent))
    report("optimize", 1, 1)
    tuned: list[Tuned] = []
    libraries: list[tuple[Target, Any]] = []
    kernels: list[KernelReport] = []
    scheduled = module
    device: DeviceBuild | None = None
    for target in targets:
        tuned.append(tune_module(module, target, imported.contract, weights, tuning) if tuning else Tuned())
        scheduled, kernels = schedule_functions(
            module, target, lambda done, total: report("schedule", done, total), tuned[-1].parameters
        )
        scheduled = pipeline.finish(scheduled, target)
        kernels = finished_reports(scheduled, kernels)
        report("build", 0, 1)
        if target.is_gpu:
            executable, device = _build_for_gpu(scheduled, target, imported.contract, pipeline, report)
            libraries.append((target, executable))
        else:
            libraries.append((target, build(scheduled, target)))
        report("build", 1, 1)
    tuned = _with_algorithms(tuned, algorithms, spent)
    source = imported.source
    request = ExportRequest(
        libraries=libraries,
        weights=weights,
        contract=imported.contract,
        source=Source(source.path.name, source.sha256, source.opsets, dict(source.external)),
        level=pipeline.level,
        passes=[_pass_report(step) for step in pipeline.reports],
        explanations=[*pipeline.explanations.all(), *explain_kernels(kernels)],
        kernels=[_kernel(kernel) for kernel in kernels],
        activations=_activations(activation_bytes(scheduled, [spec.shape for spec in imported.contract.inputs])),
        tuning_records=[
            {"isa": record_class(target), **entry}
            for target, each in zip(targets, tuned)
            for entry in [*each.algorithms, *(one.to_json() for one in each.chosen)]
        ],
        include_runtime=include_runtime,
        device=device,
    )
    return request, tuned


def _optimize(
    imported: ImportedModel, target: Target, pipeline: Pipeline, tuning: Tuning | None
) -> tuple[Any, Any, list[dict[str, Any]], Spent]:
    """(module, weights, the convolutions' algorithms, what measuring these took): weights are packed for ``target``."""
    if tuning is None or target.is_gpu:
        return *lift_weights(pipeline.optimize(imported.module, target)), [], Spent()
    algorithms = Algorithms(tuning, target)
    with winograd_plan.chosen_by(algorithms):
        module, weights = lift_weights(pipeline.optimize(imported.module, target))
        spent = algorithms.measure(sum(array.nbytes for _, array in weights))
        if spent.changed:
            pipeline.forget()
            module, weights = lift_weights(pipeline.optimize(imported.module, target))
    return module, weights, algorithms.to_json(), spent


def _with_algorithms(tuned: list[Tuned], algorithms: list[dict[str, Any]], spent: Spent) -> list[Tuned]:
    """The first target's, for which weights were packed, has the algorithms."""
    if not tuned:
        return tuned
    measurements = tuned[0].measurements + spent.measurements
    return [replace(tuned[0], algorithms=tuple(algorithms), measurements=measurements), *tuned[1:]]


def tune(
    model: str | Path,
    *,
    target: str = "cpu",
    shapes: UserShapes | None = None,
    level: str = "O2",
    budget: Budget | None = None,
    log: str | None = None,
    shipped_log: bool = True,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    observer: Observer | None = None,
    rpc: Rpc | None = None,
) -> list[tuple[Target, Tuned]]:
    """Measure the kernels of ``model`` into the log, each target's in turn, and go on where it was left; on servers
    of ``rpc`` if given.

    Without a ``budget`` nothing is measured: what comes back says what the log knows. Raises KilnError.
    """
    steps_for(level)
    targets = parse(target)
    _check_gpus(targets, tune=budget)
    imported = import_model(model, shapes, max_bytes=max_bytes)
    with open_log(log, shipped_log, write=budget is not None) as records:
        tuning = Tuning(records, budget, seed, again=True, observer=observer, rpc=rpc)
        module, weights, algorithms, spent = _optimize(imported, targets[0], Pipeline(level), tuning)
        tuning = replace(tuning, budget=left_of(tuning.budget, spent))
        tuned = [tune_module(module, one, imported.contract, weights, tuning) for one in targets]
        return list(zip(targets, _with_algorithms(tuned, algorithms, spent)))


def _check_gpus(targets: list[Target], **options: Any) -> None:
    """Refuse what isn't built for GPUs, before anything takes time; and NVRTC that is missing."""
    for target in targets:
        if target.is_gpu:
            for name, value in options.items():
                if value is not None:
                    hint = "leave it out, or compile for cpu"
                    if name == "tune":
                        hint = "leave it out: parameters that a log has for these GPUs are used; measuring is for cpu"
                    raise UsageError(f"{name} is for processors only yet", hint=hint)
            nvrtc.check_gpus(target.gpus)


def _build_for_gpu(
    scheduled: Any, target: Target, contract: Contract, pipeline: Pipeline, report: Progress
) -> tuple[Any, DeviceBuild]:
    if any(spec.sequence for spec in (*contract.inputs, *contract.outputs)):
        raise CompileError("sequences as inputs or outputs are for processors only yet", hint="compile it for cpu")
    program = build_gpu(scheduled, target)
    pipeline.dump_text(program.source, "kernels.cu")
    report("device", 0, 1)
    progress = functools.partial(report, "device")
    device = compile_device(program.source, program.kernels, target.gpus, progress)
    return program.executable, device


def _pass_report(step: StepReport) -> PassReport:
    return PassReport(step.name, step.applied)


def _activations(size: int | str | None) -> Activations:
    return Activations(formula=size) if isinstance(size, str) else Activations(bytes=size)


def _kernel(report: KernelReport) -> Kernel:
    kind = "template" if report.template else "generic"
    return Kernel(report.name, kind, report.template, report.vectorized, report.calls)
