#!/usr/bin/env python3
"""Measures every candidate of every kernel of a model into a log: what ``scripts/evaluate_ranking.py`` judges by.

    scripts/measure_spaces.py LOG [NAME...] [--rounds 3] [--most 64]

NAME is a benchmark model (``scripts/bench.py list``) or an ONNX file. All candidates of a kernel are built first; then
they are measured in turn, in another random order each round, so that what else the machine does hits all alike. A
record keeps the faster quarter of a candidate's latencies. Kernels whose space is in LOG already are left out.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tvm

import checkout  # noqa: F401  (makes onnxkiln importable)
from bench_models.catalog import load_models
from onnxkiln.frontend import import_model
from onnxkiln.kernel_builder import HANDLER, target_to_json
from onnxkiln.passes.lift_weights import lift_weights
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.targets import Target, host, host_cpus
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.machine import machine_key
from onnxkiln.tuning.record import Record
from onnxkiln.tuning.session import BUILD_LIMIT, MOST_COLD, RUN_LIMIT, RUNNER
from onnxkiln.tuning.tasks import Task, tasks_of
from onnxkiln.tuning.workers import Worker, WorkerFailed

SECONDS = 0.05
"""Of each measurement; there are ``--rounds`` of each candidate."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models (default: all of the benchmark)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each candidate (default: 3)")
    parser.add_argument("--most", type=int, default=64, help="candidates of a space, drawn by chance (default: 64)")
    options = parser.parse_args(arguments)
    files = [Path(name) for name in options.names if Path(name).is_file()]
    names = [name for name in options.names if not Path(name).is_file()]
    if names or not files:
        files += [model.path() for model in load_models(names)]
    target = host()
    with TuningLog.open(options.log, shipped=False) as log:
        for file in files:
            measure_model(file, target, log, options.rounds, options.most)
    return 0


def measure_model(file: Path, target: Target, log: TuningLog, rounds: int, most: int) -> None:
    imported = import_model(file)
    module, weights = lift_weights(Pipeline("O2").optimize(imported.module, target))
    cold = min(sum(array.nbytes for _, array in weights), MOST_COLD)
    known = {record.workload for record in log.records()}
    tasks = [task for task in tasks_of(module, target, imported.contract) if task.workload not in known]
    print(f"{file.stem}: {len(tasks)} kernels, {sum(len(task.choices.candidates) for task in tasks)} candidates")
    with Worker(HANDLER) as builder, Worker(RUNNER, host_cpus()[-1:]) as runner:
        for task in tasks:
            start = time.perf_counter()
            records = measure_space(task, target, cold, builder, runner, rounds, most)
            log.extend(records)
            times = [record.latency for record in records]
            failed = sum(record.status != "ok" for record in records)
            words = f"{len(records)} candidates, {failed} failed, default {times[0] / min(times):.3f} of the best"
            print(f"  {task.text}: {words}, {time.perf_counter() - start:.0f} s", flush=True)


def measure_space(
    task: Task, target: Target, cold: int, builder: Worker, runner: Worker, rounds: int, most: int
) -> list[Record]:
    """One record for each candidate, the default's first."""
    default, *others = task.choices.candidates
    random.seed(task.workload)
    candidates = [default, *random.sample(others, min(len(others), most - 1))]
    seconds: list[list[float]] = [[] for _ in candidates]
    failures: dict[int, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="onnxkiln-spaces-") as folder:
        libraries = {}
        function = tvm.ir.save_json(task.function)
        for index, candidate in enumerate(candidates):
            # Names that no earlier kernel had: the runner keeps results and libraries by them.
            path = f"{folder}/{task.workload[:16]}-{index}.so"
            try:
                libraries[index] = builder.call(
                    BUILD_LIMIT, function=function, target=target_to_json(target), parameters=dict(candidate), path=path
                )
            except WorkerFailed as failure:
                failures[index] = (failure.status, str(failure))
        for _ in range(rounds):
            for index in random.sample(sorted(libraries), len(libraries)):
                if index not in failures:
                    found, failed = _measure_once(task, libraries[index], libraries[0], cold, runner)
                    seconds[index] += found
                    failures |= {index: failed} if failed else {}
    return [
        _record(task, target, candidate, seconds[index], failures.get(index))
        for index, candidate in enumerate(candidates)
    ]


def _measure_once(
    task: Task, library: str, reference: str, cold: int, runner: Worker
) -> tuple[list[float], tuple[str, str] | None]:
    try:
        answer = runner.call(
            RUN_LIMIT, library=library, reference=reference,
            arguments=[[asdict(argument) for argument in one] for one in task.arguments], scales=list(task.scales),
            results=task.results, cold_bytes=cold, seconds=SECONDS, slow=RUN_LIMIT,
        )  # fmt: skip
    except WorkerFailed as failure:
        return [], (failure.status, str(failure))
    if answer["status"] != "ok":
        return [], ("wrong", answer["words"])
    return answer["seconds"], None


def _record(
    task: Task, target: Target, parameters: Any, seconds: Sequence[float], failed: tuple[str, str] | None
) -> Record:
    key = machine_key(target)
    status, error = failed or ("ok", "")
    fastest = sorted(seconds)[: max(1, len(seconds) // 4)]
    return Record(
        workload=task.workload, task=task.text, template=task.choices.template,
        template_version=task.choices.version, algorithm=task.algorithm, parameters=dict(parameters), isa=key.isa,
        threads=key.threads, cache=key.cache, machine=key.machine, status=status,  # type: ignore[arg-type]
        seconds=() if failed else tuple(fastest), error=error, features=task.candidate_features(parameters, target),
        versions=key.versions, when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
