"""A recorded log of GPUs' measurements schedules builds on machines that have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import helper

import onnxkiln
from onnxkiln import targets, tuned_records
from onnxkiln.artifacts.driver import GpuDevice
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.errors import UsageError
from onnxkiln.frontend import import_model
from onnxkiln.passes.lift_weights import lift_weights
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.tuner import Tuning, tune_module
from onnxkiln.tuning.budget import parse_budget
from onnxkiln.tuning.gpu_tasks import gpu_tasks_of
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.machine import gpu_key
from onnxkiln.tuning.record import Record
from onnxkiln.tuning.tasks import Task


def model(folder: Path, rows: int | str = 512) -> Path:
    """Two products of the same form, and one of another."""
    random = np.random.default_rng(0)
    weights = [(64, 96), (96, 64), (64, 96)]
    names = ["x", "a", "b", "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(3)]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", 1, [rows, 64])],
        [helper.make_tensor_value_info("y", 1, [rows, 96])],
        [
            onnx.numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), f"w{i}")
            for i, shape in enumerate(weights)
        ],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def optimized(path: Path, target: targets.Target) -> tuple[tvm.IRModule, list[Task]]:
    module, _ = lift_weights(Pipeline("O2").optimize(import_model(path).module, target))
    return module, gpu_tasks_of(module, target)


def record(task: Task, tile: int, seconds: float, sm: str = "sm_90", device: str = "NVIDIA H100") -> Record:
    key = gpu_key(sm, device)
    return Record(
        workload=task.workload, task=task.text, template=task.choices.template,
        template_version=task.choices.version, algorithm=task.algorithm, parameters={"tile": tile}, isa=key.isa,
        threads=key.threads, cache=key.cache, machine=key.machine, status="ok", seconds=(seconds,), error="",
        features={}, versions=key.versions, when="2026-11-28T12:00:00Z",
    )  # fmt: skip


def written(path: Path, *records: Record) -> Path:
    with TuningLog.open(str(path), write=True, shipped=False) as log:
        for one in records:
            log.append(one)
    return path


def test_tasks_are_known_by_what_they_compute(tmp_path: Path) -> None:
    fp32 = targets.parse("cuda:sm_90")[0]
    module, tasks = optimized(model(tmp_path), fp32)
    assert sorted(task.calls for task in tasks) == [1, 2]
    assert {task.choices.template for task in tasks} == {"gpu_matmul"}
    assert {task.workload for task in tasks} == {task.workload for task in optimized(model(tmp_path), fp32)[1]}
    tf32 = targets.with_precision([fp32], "tf32")[0]
    assert {task.choices.template for task in gpu_tasks_of(module, tf32)} == {"gpu_tensor_cores"}


def test_a_recorded_log_schedules_a_build_without_a_gpu(tmp_path: Path) -> None:
    precision = "fp16"
    target = targets.with_precision(targets.parse("cuda:sm_80,sm_90"), precision)[0]
    _, tasks = optimized(model(tmp_path), target)
    other = [(task, next(c["tile"] for c in reversed(task.choices.candidates))) for task in tasks]
    assert all({"tile": tile} != task.choices.default for task, tile in other)
    log = written(tmp_path / "log.sqlite", *(record(task, tile, 1e-5) for task, tile in other))

    def build(name: str, log: str) -> tuple[Path, list[dict]]:
        made = onnxkiln.compile(
            model(tmp_path), tmp_path / name, target="cuda:sm_80,sm_90", precision=precision, log=log, shipped_log=False
        )
        with OpenArtifact(made) as opened:
            return made, [dict(entry) for entry in opened.manifest.tuning_records]

    tuned, entries = build("tuned", str(log))
    assert {(entry["task"], entry["parameters"]["tile"]) for entry in entries} == {(t.text, tile) for t, tile in other}
    assert {entry["from"] for entry in entries} == {"class"} and {entry["isa"] for entry in entries} == {"sm_80,sm_90"}
    plain, entries = build("plain", "none")
    assert {entry["from"] for entry in entries} == {"default"}
    code = "device/sm_90.cubin"
    assert (tuned / code).read_bytes() != (plain / code).read_bytes(), "the parameters reach the machine code"
    stages: list[str] = []
    options = {"target": "cuda:sm_80,sm_90", "precision": precision, "shipped_log": False}
    onnxkiln.compile(
        model(tmp_path), tuned, log=str(log), progress=lambda stage, *_: stages.append(stage), **options
    )
    assert stages == [onnxkiln.UP_TO_DATE]


def test_which_record_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest architecture's; this machine's own GPU's before others'; none of another version or template."""
    target = targets.parse("cuda:sm_80,sm_90")[0]
    module, tasks = optimized(model(tmp_path), target)
    task = tasks[0]
    tiles = [candidate["tile"] for candidate in task.choices.candidates]
    records = [
        record(task, tiles[1], 1e-5, "sm_80", "NVIDIA A100"),
        record(task, tiles[0], 9e-5, "sm_80", "NVIDIA A30"),
        replace(record(task, tiles[0], 1e-9, "sm_90"), template_version=99),
        record(task, tiles[0], 1e-9, "sm_86", "NVIDIA A10"),
    ]

    def chosen(*more: Record) -> tuple[str, int]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
        with TuningLog.open(str(written(path, *records, *more)), shipped=False) as log:
            result = tune_module(module, target, import_model(model(tmp_path)).contract, [], Tuning(log))
        one = next(one for one in result.chosen if one.task.workload == task.workload)
        return one.source, one.parameters["tile"]

    assert chosen() == ("class", tiles[1])
    assert chosen(record(task, tiles[2], 5e-5)) == ("class", tiles[2])
    monkeypatch.setattr(tuned_records, "_devices", lambda: [GpuDevice(0, "NVIDIA A30", 80)])
    assert chosen() == ("exact", tiles[0])


def test_measuring_on_gpus_is_refused_in_words(tmp_path: Path) -> None:
    target = targets.parse("cuda:sm_90")[0]
    module, _ = optimized(model(tmp_path), target)
    with TuningLog.open("none", shipped=False) as log:
        tuning = Tuning(log, parse_budget("1s"))
        with pytest.raises(UsageError, match=r"can't be measured yet.*\n.*records that a log has are used"):
            tune_module(module, target, import_model(model(tmp_path)).contract, [], tuning)
