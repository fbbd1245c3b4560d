"""In which order to try a task's candidates, before any of them was measured."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence

from ..schedules.template import Parameters
from ..targets import Target
from .cost_model import CostModel
from .record import Record
from .tasks import Task

NEIGHBOURS = 3
"""Candidates that were best for the most similar task go first."""

EXPLORE = 5
"""Every so many candidates one comes out of its turn, by chance: no model is always right."""

_SHAPE = ("outer", "rows", "columns", "depth", "weight_bytes")


def ranked(
    task: Task, target: Target, known: Sequence[Record], seed: int, model: CostModel | None = None
) -> list[Parameters]:
    """All candidates: the default, what was best for similar tasks among ``known`` records, the rest as ``model`` says.

    Without a model the rest goes by ``analytic_cost``. The same task, records and ``seed`` give the same order.
    """
    candidates = list(task.choices.candidates)
    if model is not None:
        costs = [-score for score in model.scores([task.candidate_features(one, target) for one in candidates])]
    else:
        costs = [analytic_cost(task.candidate_features(one, target)) for one in candidates]
    places = sorted(range(len(candidates)), key=lambda place: (costs[place], place))
    order = _shuffled_in([candidates[place] for place in places], seed, task.workload)
    first = [task.choices.default, *similar_choices(task, known)]
    result: list[Parameters] = []
    for one in [*first, *order]:
        if one in candidates and one not in result:
            result.append(one)
    return result


def analytic_cost(features: Mapping[str, float]) -> float:
    """Relative time of a register tile by ``Task.candidate_features``: loads for each multiply-add, work in vain, sums
    too few to hide latency."""
    in_flight = min(1.0, features["sums"] / 10)
    efficiency = min(features["per_load"], 3.0) ** 0.5 * in_flight * features["useful"]
    return 1.0 / max(efficiency, 1e-6)


def similar_choices(task: Task, known: Sequence[Record]) -> list[Parameters]:
    """The best parameters of the task itself, as other machines or other numbers of threads had it, then those of the
    nearest task of the same template and algorithm; each best first."""
    usable = [
        record
        for record in known
        if record.status == "ok"
        and (record.template, record.template_version) == (task.choices.template, task.choices.version)
        and record.algorithm == task.algorithm
    ]
    others = [record for record in usable if record.workload != task.workload]
    nearest = min(others, key=lambda record: (_distance(task, record), record.workload)).workload if others else ""
    return [one for workload in (task.workload, nearest) for one in _fastest(usable, workload)]


def _fastest(records: Sequence[Record], workload: str) -> list[Parameters]:
    own = sorted((record for record in records if record.workload == workload), key=lambda record: record.latency)
    chosen: list[Parameters] = []
    for record in own:
        if dict(record.parameters) not in chosen:
            chosen.append(dict(record.parameters))
    return chosen[:NEIGHBOURS]


def _distance(task: Task, record: Record) -> float:
    """How far apart two tasks' shapes are, in factors of e."""
    pairs = [(task.features[name], record.features.get(name, 0.0)) for name in _SHAPE]
    return sum(abs(math.log((a + 1) / (b + 1))) for a, b in pairs)


def _shuffled_in(order: list[Parameters], seed: int, workload: str) -> list[Parameters]:
    """The order with every EXPLORE-th place taken by a random one of those that come later."""
    # Not Python's hash(), which differs from one process to the next.
    digest = hashlib.sha256(f"{seed} {workload}".encode()).digest()
    chance = random.Random(int.from_bytes(digest[:8], "big"))
    rest = list(order)
    result: list[Parameters] = []
    while rest:
        place = chance.randrange(len(rest)) if len(result) % EXPLORE == EXPLORE - 1 else 0
        result.append(rest.pop(place))
    return result
