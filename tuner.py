"""Tuned parameters for an optimized module: from the log, and where it has none and a budget allows, by measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm

from .contract import Contract
from .errors import ToolchainError, UsageError
from .kernel_builder import HANDLER, target_to_json
from .targets import Target, host_cores, missing_features
from .tuned_records import find_any, machine_keys
from .tuning.budget import Budget
from .tuning.cost_model import CostModel
from .tuning.gpu_tasks import gpu_tasks_of
from .tuning.log import TuningLog
from .tuning.lookup import Source, find
from .tuning.machine import MachineKey, machine_key
from .tuning.ranking import ranked
from .tuning.record import Record
from .tuning.rpc import Rpc, remote_key
from .tuning.search import TaskSearch, candidate_key, guessed_seconds
from .tuning.session import Observer, Session, Setup
from .tuning.tasks import Task, tasks_of

Weights = Sequence[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Chosen:
    """What a task is scheduled by. ``source`` is "default" where no record says otherwise."""

    task: Task
    parameters: Mapping[str, int]
    source: Source | str
    seconds: float | None = None
    """The record's latency, of one call; where it is another machine's, it is that machine's."""

    @property
    def expected_seconds(self) -> float:
        """Of one call: the record's, or a guess from the task's work."""
        return self.seconds if self.seconds is not None else guessed_seconds(self.task)

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it: enough to ask a log again whether it still says the same."""
        return {
            "workload": self.task.workload,
            "task": self.task.text,
            "template": self.task.choices.template,
            "version": self.task.choices.version,
            "algorithm": self.task.algorithm,
            "parameters": dict(self.parameters),
            "from": self.source,
        }


@dataclass(frozen=True)
class Tuned:
    """``parameters`` by the names of the module's functions, where a record was found; ``measurements`` made now;
    ``log_hits``: tasks that the log had a record of before any was."""

    parameters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    chosen: tuple[Chosen, ...] = ()
    measurements: int = 0
    log_hits: int = 0
    learnt: tuple[str, ...] = ()
    """Templates whose candidates were ranked by a model trained on the log; the others' by the analytic one."""
    algorithms: tuple[Mapping[str, Any], ...] = ()
    """The convolutions' algorithms, as the manifest keeps them (see ``algorithms``)."""


@dataclass(frozen=True)
class Tuning:
    """How to tune: a ``budget`` (None: only what the log knows); ``again`` goes on with tasks that it knows already."""

    log: TuningLog
    budget: Budget | None = None
    seed: int = 0
    again: bool = False
    observer: Observer | None = None
    builder: str = HANDLER
    rpc: Rpc | None = None
    """Servers to measure on; None is this machine."""


def tune_module(
    mod: tvm.IRModule, target: Target, contract: Contract, weights: Weights, tuning: Tuning
) -> Tuned:
    """Choose parameters for every task of ``mod``, optimized and not yet scheduled.

    Raises UsageError when there is a budget and this machine can't run the target's code; LogError when the log fails.
    """
    if target.is_gpu:
        if tuning.budget is not None:
            raise UsageError(
                "kernels for GPUs can't be measured yet", hint="leave --tune out: records that a log has are used"
            )
        return _recorded(gpu_tasks_of(mod, target), target, tuning.log)
    tasks = tasks_of(mod, target, contract)
    key = machine_key(target)
    if tuning.rpc is not None and tuning.budget is not None:
        key = remote_key(tuning.rpc, key)
    known = [find(tuning.log, task.workload, key, accepts(task)) for task in tasks]
    measurements, learnt = 0, tuple[str, ...]()
    if tuning.budget is not None and tasks:
        if tuning.rpc is None:
            check_runs(target)
        open_tasks = [t for t, found in zip(tasks, known) if tuning.again or not (found and found.source == "exact")]
        if open_tasks:
            measurements, learnt = _search(open_tasks, target, key, weights, tuning)
    found = [find(tuning.log, task.workload, key, accepts(task)) for task in tasks]
    chosen = tuple(
        Chosen(task, one.record.parameters, one.source, one.record.latency)
        if one
        else Chosen(task, task.choices.default, "default")
        for task, one in zip(tasks, found)
    )
    parameters = {name: one.parameters for one in chosen if one.source != "default" for name in one.task.functions}
    hits = sum(one is not None for one in known)
    return Tuned(parameters, chosen, measurements, hits, learnt)


def _recorded(tasks: Sequence[Task], target: Target, log: TuningLog) -> Tuned:
    """What the log knows of kernels for GPUs; no GPU is needed for that."""
    keys = machine_keys(target)
    found = [find_any(log, task.workload, keys, accepts(task)) for task in tasks]
    chosen = tuple(
        Chosen(task, one.record.parameters, one.source, one.record.latency)
        if one
        else Chosen(task, task.choices.default, "default")
        for task, one in zip(tasks, found)
    )
    parameters = {name: one.parameters for one in chosen if one.source != "default" for name in one.task.functions}
    return Tuned(parameters, chosen, 0, sum(one is not None for one in found))


def accepts(task: Task) -> Callable[[Record], bool]:
    """Whether a record's parameters are among the task's candidates, of the same template, version and algorithm."""
    candidates = {candidate_key(one) for one in task.choices.candidates}
    wanted = (task.choices.template, task.choices.version, task.algorithm)

    def accept(record: Record) -> bool:
        same = (record.template, record.template_version, record.algorithm) == wanted
        return same and not record.trace and candidate_key(record.parameters) in candidates

    return accept


def check_runs(target: Target) -> None:
    """Raises UsageError where this machine can't run the target's code."""
    missing = missing_features(target.required_features)
    if missing or not target.is_native:
        raise UsageError(
            f"target {target.name} can't be tuned on this machine, which can't run its code"
            + (f" (it lacks {', '.join(missing)})" if target.is_native else ""),
            hint="tune on such a machine with the same --log, or leave --tune out",
        )
    if target.run_threads > host_cores():
        raise UsageError(
            f"kernels can't be measured with {target.run_threads} threads on {host_cores()} core(s)",
            hint="ask for fewer threads=, or tune on a larger machine with the same --log",
        )


def _search(
    tasks: Sequence[Task], target: Target, key: MachineKey, weights: Weights, tuning: Tuning
) -> tuple[int, tuple[str, ...]]:
    """(measurements made, templates ranked by a trained model)."""
    assert tuning.budget is not None
    setup = Setup(
        builder=tuning.builder,
        target=target,
        target_json=target_to_json(target),
        key=key,
        weight_bytes=sum(array.nbytes for _, array in weights),
        rpc=tuning.rpc,
    )
    names = sorted({task.choices.template for task in tasks})
    known = {name: tuning.log.similar(name, key.isa) for name in names}
    models = {name: _trained(records, tuning.seed) for name, records in known.items()}
    _keep_modules(tasks, tuning.log)
    searches = []
    for task in tasks:
        name = task.choices.template
        order = ranked(task, target, known[name], tuning.seed, models[name])
        searches.append(_resumed(TaskSearch(task, order), tuning.log, key, accepts(task)))
    with Session(setup, tuning.log, tuning.observer) as session:
        session.run(searches, tuning.budget)
        return session.measurements, tuple(name for name in names if models[name] is not None)


def _keep_modules(tasks: Sequence[Task], log: TuningLog) -> None:
    """The functions themselves: without them no export could say what was measured."""
    known = set(log.modules())
    for task in tasks:
        if task.workload not in known:
            log.keep_module(task.workload, tvm.ir.save_json(tvm.IRModule({"main": task.function})))


def _trained(records: Sequence[Record], seed: int) -> CostModel | None:
    """None where the log knows too little, or XGBoost is not installed: tuning works without, but takes longer."""
    try:
        return CostModel.train(records, seed)
    except ToolchainError:
        return None


def _resumed(
    search: TaskSearch, log: TuningLog, key: MachineKey, accept: Callable[[Record], bool]
) -> TaskSearch:
    """What this machine has measured of the task before counts as measured now."""
    for record in log.records({"workload": search.task.workload, "machine": key.machine}):
        if accept(record):
            search.tell(record.parameters, record)
    search.misses = 0
    return search
