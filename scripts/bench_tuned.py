#!/usr/bin/env python3
"""What tuning is worth: each benchmark model tuned, by the shipped log alone, and untuned, beside other engines.

    scripts/bench_tuned.py run LOG [NAME...]   compile, measure side by side, print the table; results are kept
    scripts/bench_tuned.py rebuild LOG [NAME...]   builds with LOG beside untuned ones: seconds, hits, the same bytes
    scripts/bench_tuned.py report              the table of what was measured

LOG is a tuning log (``scripts/ship_log.py tune LOG`` makes one of all models). *Tuned* is built by its records alone,
*shipped* by those that come with the package alone, *untuned* by neither. Builds with the same code are measured once:
their ratio is 1. Every figure is a median over fresh processes of what each process saw side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import checkout
import onnxkiln
from bench_models.artifacts import listed_feeds
from bench_models.catalog import BenchModel, load_models
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.benchmarking.benchmark import PAUSE_S, make_job
from onnxkiln.benchmarking.engines import OURS, parse_peers
from onnxkiln.benchmarking.processes import EngineFailed, EngineProcess, Job
from onnxkiln.commands.output import format_table
from onnxkiln.errors import UsageError

FOLDER = checkout.ROOT / "build" / "tuned"
BUILDS = ("tuned", "shipped", "untuned")
HEADER = ("model", "threads", *(f"{name} ms" for name in BUILDS), "tuned/untuned", "shipped/tuned")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="artifacts and results (default: build/tuned)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="measure")
    run.add_argument("--compare", default="onnxruntime", metavar="ENGINES", help="default: onnxruntime")
    run.add_argument("--threads", type=int, default=1, help="of each engine (default: 1)")
    run.add_argument("--processes", type=int, default=3, help="fresh processes of each (default: 3)")
    run.add_argument("--rounds", type=int, default=4, help="turns of each in a process (default: 4)")
    run.add_argument("--seconds", type=float, default=0.25, help="of a turn (default: 0.25)")
    run.add_argument("--compile-only", action="store_true", help="only bring artifacts up to date")
    run.add_argument("--again", action="store_true", help="measure also what was measured of the same code")
    run.set_defaults(execute=_run)
    rebuild = commands.add_parser("rebuild", help="builds with the log beside untuned ones")
    rebuild.set_defaults(execute=_rebuild)
    for command in (run, rebuild):
        command.add_argument("log", type=Path)
        command.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    commands.add_parser("report", help="print what was measured").set_defaults(execute=_report)
    options = parser.parse_args(arguments)
    return int(options.execute(options))


def _run(options: argparse.Namespace) -> int:
    failed = 0
    for model in load_models(options.names):
        try:
            builds = {name: _built(model, name, options) for name in BUILDS}
            if not options.compile_only:
                _measured(model, builds, options)
        except Exception as error:  # one model's trouble is not the others'
            print(f"{model.name}: {error}", file=sys.stderr, flush=True)
            failed += 1
    if not options.compile_only:
        _report(options)
    return int(failed > 0)


def _records(name: str, log: Path) -> dict[str, Any]:
    """Which records a build of this name goes by, as options of ``onnxkiln.compile``."""
    return {"log": str(log) if name == "tuned" else "none", "shipped_log": name == "shipped"}


def _built(model: BenchModel, name: str, options: argparse.Namespace) -> Path:
    target = "cpu" if options.threads == 1 else f"cpu,threads={options.threads}"
    artifact = options.folder / model.name / (name if options.threads == 1 else f"{name}.{options.threads}t")
    artifact.parent.mkdir(parents=True, exist_ok=True)
    try:
        return onnxkiln.compile(model.path(), artifact, target=target, **_records(name, options.log))
    except UsageError:  # what is there was made otherwise
        return onnxkiln.compile(model.path(), artifact, target=target, force=True, **_records(name, options.log))


def library_digest(artifact: Path) -> str:
    """sha256 of the one library's bytes."""
    with OpenArtifact(artifact) as opened:
        (library,) = opened.manifest.libraries
        return opened.manifest.file(library.path).sha256


def _measured(model: BenchModel, builds: Mapping[str, Path], options: argparse.Namespace) -> None:
    peers = parse_peers(options.compare)
    settings: dict[str, Any] = {
        "code": {name: library_digest(artifact) for name, artifact in builds.items()},
        "engines": {engine.name: engine.version for engine in peers},
        "effort": [options.threads, options.processes, options.rounds, options.seconds],
    }
    file = options.folder / f"{model.name}.{options.threads}t.json"
    if not options.again and _kept(file) == settings:
        return
    print(f"{model.name}: measuring on {options.threads} thread(s) ...", file=sys.stderr, flush=True)
    same: dict[str, str] = {}
    for name, digest in settings["code"].items():
        same.setdefault(digest, name)
    runners = {name: (OURS, builds[name]) for name in same.values()}
    runners |= {engine.name: (engine.name, builds["tuned"]) for engine in peers}
    seconds = side_by_side(runners, model, options)
    seconds |= {name: seconds[same[digest]] for name, digest in settings["code"].items()}
    result = {"model": model.name, "threads": options.threads, "settings": settings, "p50": seconds}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    partial.replace(file)


def _kept(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError):
        return None


def side_by_side(
    runners: Mapping[str, tuple[str, Path]], model: BenchModel, options: argparse.Namespace
) -> dict[str, list[float]]:
    """For each runner, an engine with an artifact, the median seconds of a run in each fresh process."""
    medians: dict[str, list[float]] = {name: [] for name in runners}
    with tempfile.TemporaryDirectory(prefix="onnxkiln-tuned-") as folder:
        feeds = listed_feeds(model.listed, next(iter(runners.values()))[1])
        jobs = {}
        for name, (_, artifact) in runners.items():
            (Path(folder) / name).mkdir()
            jobs[name] = make_job(artifact, model.path(), feeds, options.threads, Path(folder) / name)
        for number in range(options.processes):
            for name, one in _in_turns(runners, jobs, number, options).items():
                medians[name].append(median(one))
    return {name: each for name, each in medians.items() if len(each) == options.processes}


def _in_turns(
    runners: Mapping[str, tuple[str, Path]], jobs: Mapping[str, Job], number: int, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of all calls, in one fresh process each."""
    calls: dict[str, list[float]] = {name: [] for name in runners}
    with contextlib.ExitStack() as stack:
        processes = {}
        for name in _rotated(list(runners), number):
            try:
                processes[name] = stack.enter_context(EngineProcess(runners[name][0], jobs[name]))
            except EngineFailed as failure:
                if runners[name][0] == OURS:
                    raise
                print(f"{name} can't run it: {failure}", file=sys.stderr, flush=True)
        for turn in range(options.rounds):
            for name in _rotated(list(processes), number + turn):
                time.sleep(PAUSE_S)
                calls[name] += processes[name].ask("block", seconds=options.seconds)["seconds"]
    return {name: its for name, its in calls.items() if its}


def _rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def ratio(result: Mapping[str, Any], one: str, other: str) -> float:
    """The median over processes of what they saw side by side."""
    pairs = zip(result["p50"][one], result["p50"][other], strict=True)
    return median(a / b for a, b in pairs)


def cells(result: Mapping[str, Any], engines: Sequence[str]) -> list[str]:
    times = [f"{1e3 * median(result['p50'][name]):.3f}" for name in BUILDS]
    ratios = [ratio(result, "tuned", "untuned"), ratio(result, "shipped", "tuned")]
    beside = [ratio(result, "tuned", engine) if engine in result["p50"] else None for engine in engines]
    fastest = [max((one for one in beside if one is not None), default=None)] if len(engines) > 1 else []
    shown = ["-" if one is None else f"{one:.3f}" for one in [*ratios, *beside, *fastest]]
    return [result["model"], str(result["threads"]), *times, *shown]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A row for each model, and the geometric means of the ratios."""
    engines = sorted({engine for result in results for engine in result["settings"]["engines"]})
    header = [*HEADER, *(f"tuned/{engine}" for engine in engines), *(["tuned/fastest"] if len(engines) > 1 else [])]
    rows = [cells(result, engines) for result in results]
    means = []
    for column in range(len(HEADER) - 2, len(header)):
        known = [float(row[column]) for row in rows if row[column] != "-"]
        means.append(f"{geometric_mean(known):.3f}" if known else "-")
    return format_table(header, [*rows, ["geometric mean", *[""] * (len(HEADER) - 3), *means]])


def _report(options: argparse.Namespace) -> int:
    order = [model.name for model in load_models()]
    results = [json.loads(file.read_text(encoding="utf-8")) for file in options.folder.glob("*.[0-9]*t.json")]
    for threads in sorted({result["threads"] for result in results}):
        mine = [result for result in results if result["threads"] == threads]
        print(table(sorted(mine, key=lambda result: order.index(result["model"]))), end="\n\n")
    if not results:
        print("nothing has been measured yet: scripts/bench_tuned.py run LOG")
    return 0


@dataclass(frozen=True)
class Build:
    """``tuned``: what the build says of its tasks; ``digest`` of its library."""

    seconds: float
    tuned: Any
    digest: str


def _rebuild(options: argparse.Namespace) -> int:
    """Fresh builds in turn, twice each; the faster one's seconds count."""
    rows, wrong = [], False
    for model in load_models(options.names):
        with tempfile.TemporaryDirectory(prefix="onnxkiln-rebuild-") as folder:
            order = ("untuned", "tuned") * 2
            made = [(name, _build_anew(model, name, Path(folder) / str(i), options)) for i, name in enumerate(order)]
        each = {name: [build for its, build in made if its == name] for name in BUILDS[::2]}
        untuned, tuned = (min(build.seconds for build in each[name]) for name in ("untuned", "tuned"))
        found = each["tuned"][0].tuned
        same = len({build.digest for build in each["tuned"]}) == 1
        good = found.measurements == 0 and found.log_hits == len(found.chosen) and same
        wrong = wrong or not good
        hits = f"{found.log_hits} of {len(found.chosen)}"
        rows.append((model.name, f"{untuned:.1f}", f"{tuned:.1f}", f"{tuned / untuned:.2f}", str(found.measurements))
                    + (hits, "same" if same else "differ"))  # fmt: skip
    header = ("model", "untuned s", "with log s", "ratio", "measurements", "log hits", "bytes of two builds")
    print(format_table(header, rows))
    return int(wrong)


def _build_anew(model: BenchModel, name: str, artifact: Path, options: argparse.Namespace) -> Build:
    """With ``tune``, as the second build of the same command line: it must find nothing to measure."""
    tuned: list[Any] = []
    more: dict[str, Any] = {"tune": "60s"} if name == "tuned" else {}
    start = time.perf_counter()
    onnxkiln.compile(model.path(), artifact, tuned=tuned, **more, **_records(name, options.log))
    return Build(time.perf_counter() - start, tuned[0], library_digest(artifact))


if __name__ == "__main__":
    sys.exit(main())
