"""``onnxkiln compile``: an ONNX file becomes an artifact folder."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts.opening import OpenArtifact
from ..shapes import parse_shapes
from .explain import explanations_of, show_explanations
from .options import add_log_options, add_quantization_options
from .output import print_json
from .tuning_report import ReportRecorder, both
from .verify import show_report

if TYPE_CHECKING:
    from ..verifier import VerifyReport

Progress = Callable[[str, int, int], None]


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "compile",
        parents=[common],
        allow_abbrev=False,
        help="compile a model into an artifact folder",
        description="Compile MODEL, an ONNX file, into the artifact folder OUT.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", required=True, help="the artifact folder to make")
    parser.add_argument("--target", default="cpu", help="the machine to compile for; cpu is this one (default: cpu)")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=DIMS",
        help="the shape of an input: x=1,3,224,224 fixes its dims, x=1..64,3,224,224 bounds one, "
        "x=batch,3,224,224 names an open one (repeatable; default: as the model says)",
    )
    parser.add_argument(
        "--level",
        default="O2",
        choices=["O0", "O1", "O2", "O3"],
        help="O0 nothing, O1 clean-up, O2 all that keeps fp32 accuracy, O3 approximations (default: O2)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp16", "tf32"],
        help="for GPUs: what products and convolutions multiply on tensor cores, sums in fp32 (default: fp32, on none)",
    )
    add_quantization_options(parser)
    parser.add_argument("--dump-ir", type=Path, metavar="DIR", help="write the module after each pass into DIR")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--max-bytes",
        type=_byte_count,
        metavar="N",
        help="refuse a model whose tensors take more than N bytes; 500M and 8G work too (default: 64G)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="then compare with ONNX Runtime on random inputs, as onnxkiln verify does"
    )
    parser.add_argument(
        "--tune",
        metavar="BUDGET",
        help="measure kernels that this machine has not measured yet, for 60s, 15m or 200t (trials), before compiling",
    )
    add_log_options(parser)
    parser.add_argument(
        "--explain", action="store_true", help="say for each algorithm, fusion and template why it did or didn't apply"
    )
    parser.add_argument("--no-runtime", action="store_true", help="leave TVM's runtime library out of the artifact")
    parser.set_defaults(execute=execute)


def _byte_count(text: str) -> int:
    """A number of bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d{1,18})([KMG]?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no number of bytes such as 8000000, 500M or 8G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def execute(options: argparse.Namespace) -> int:
    shapes = parse_shapes(options.shape)
    # Imported here: the package's face is imported before its commands.
    from .. import UP_TO_DATE
    from .. import compile as compile_model

    report = ReportRecorder(options.report, options.model, options.target, options.tune)
    start = time.perf_counter()
    with _progress(visible=sys.stderr.isatty() and not options.json) as progress:
        stages = _Stages(progress)
        passes: list[Any] = []
        tuned: list[Any] = []
        artifact = compile_model(
            options.model,
            options.output,
            target=options.target,
            shapes=shapes or None,
            level=options.level,
            precision=options.precision,
            quantize=options.quantize,
            calibrate=options.calibrate,
            calibrator=options.calibrator,
            exclude=options.exclude,
            max_drop=options.max_drop,
            metric=options.metric,
            improve=options.improve,
            prefer=options.prefer,
            save_calibration=options.save_calibration,
            dump_ir=options.dump_ir,
            force=options.force,
            include_runtime=not options.no_runtime,
            max_bytes=options.max_bytes,
            progress=stages,
            reports=passes,
            tune=options.tune,
            log=options.log,
            shipped_log=not options.no_shipped_log,
            seed=options.seed,
            tuned=tuned,
            observer=both(stages.tuning, report.show),
        )
    seconds = time.perf_counter() - start
    current = UP_TO_DATE in stages.seen
    for one in tuned:
        report.write(one, options.log)
    if current and options.report is not None:
        print(f"{options.report} was not written: nothing was compiled; see onnxkiln tune --dry-run", file=sys.stderr)
    verified = _verify(artifact, options) if options.verify else None
    if options.json:
        result: dict[str, Any] = {"artifact": str(artifact), "seconds": round(seconds, 3)}
        steps = [{"name": p.name, "applied": p.applied, "seconds": round(p.seconds, 4)} for p in passes]
        result |= _tuning(artifact, tuned) | {"up_to_date": current, "passes": steps}
        if options.explain:
            result["explanations"] = explanations_of(artifact)
        print_json(result | ({"verify": verified.to_json()} if verified else {}))
    elif current:
        print(f"{artifact}: up to date (same model, options and compiler; --force compiles anew)")
    else:
        if options.verbose:
            print_passes(passes)
        print(f"{artifact}: compiled in {seconds:.1f} s (onnxkiln inspect {artifact} shows what is in it)")
    if options.explain and not options.json:
        show_explanations(explanations_of(artifact))
    if verified is not None and not options.json:
        show_report(verified)
    return 0 if verified is None or verified.agrees else 1


def _verify(artifact: Path, options: argparse.Namespace) -> VerifyReport:
    from ..verifier import verify

    return verify(artifact, options.model, progress=None if options.json else lambda line: print(line, file=sys.stderr))


def print_passes(passes: list[Any]) -> None:
    """One line a pass: how often it applied (where that is known), and its time."""
    for step in passes:
        applied = "" if step.applied is None else f"{step.applied} applied"
        print(f"{step.name:32} {applied:>14} {step.seconds:8.3f} s")


class _Stages:
    """Notes the stages that a compile goes through, and passes them on to the progress bar if there is one."""

    def __init__(self, shown: Progress | None):
        self.seen: set[str] = set()
        self._shown = shown

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen.add(stage)
        if self._shown is not None:
            self._shown(stage, done, total)

    def tuning(self, snapshot: Any) -> None:
        """A tuner's snapshot as a stage: its share of the budget, in seconds or, without a time, in measurements."""
        if snapshot.left is None:
            self("tune", snapshot.measurements, max(snapshot.measurements, snapshot.trials or 0))
        else:
            self("tune", round(snapshot.elapsed), round(snapshot.elapsed + snapshot.left))


def _tuning(artifact: Path, tuned: list[Any]) -> dict[str, int]:
    """How many kernels there were to tune, how many of them the log knew before, and the measurements made."""
    if tuned:
        tasks = sum(len(one.chosen) for one in tuned)
        hits, measurements = sum(one.log_hits for one in tuned), sum(one.measurements for one in tuned)
        return {"measurements": measurements, "log_hits": hits, "tasks": tasks}
    with OpenArtifact(artifact) as opened:  # up to date: what is in it was looked up when it was made
        records = [one for one in opened.manifest.tuning_records if one["template"] != "conv2d_algorithm"]
    hits = sum(record["from"] != "default" for record in records)
    return {"measurements": 0, "log_hits": hits, "tasks": len(records)}


@contextlib.contextmanager
def _progress(visible: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error, or None where nobody would see it."""
    if not visible:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update
