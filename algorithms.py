"""Which algorithm computes a convolution, direct or Winograd's: from the log, and within a budget by measuring.

The algorithm decides how weights are packed, so it is chosen before any kernel exists. Its records are of a layer, not
of a kernel: one for each algorithm, with the latency of that layer's kernel beside the usual bias and activation.
Layers of open sizes, and those where a formula sees one algorithm far ahead, are left to the formula.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from tvm import relax

from .contract import Contract, TensorSpec
from .kernel_builder import target_to_json
from .passes.lift_weights import lift_weights
from .passes.pipeline import Pipeline
from .schedules.template import templates
from .schedules.winograd_plan import TRANSFORMS, Layer, chosen_by, costs
from .targets import Target
from .tuner import Tuning, check_runs
from .tuning.budget import Budget
from .tuning.lookup import Found, find
from .tuning.machine import MachineKey, machine_key
from .tuning.record import Record
from .tuning.search import TaskSearch
from .tuning.session import Session, Setup
from .tuning.tasks import Task, tasks_of

NAME = "conv2d_algorithm"
PARAMETER = "winograd"
"""0 for a direct kernel, else the rows and columns that a transform computes at once."""

ALGORITHMS = (0, *TRANSFORMS)

RIVAL = 1.6
"""Estimated time beside the best algorithm's, up to which an algorithm is worth measuring."""

ROUNDS = 3
"""Measurements of each algorithm, in turn."""

SHARE = 1 / 3
"""Of the budget, at most."""


@dataclass(frozen=True)
class Spent:
    """What measuring took; ``changed`` says whether a layer gets another algorithm now than before."""

    measurements: int = 0
    seconds: float = 0.0
    changed: bool = False


class Algorithms:
    """Chooses by the log, and knows which layers it was asked about (see ``winograd_plan.chosen_by``)."""

    def __init__(self, tuning: Tuning, target: Target):
        self._tuning = tuning
        self._target = target
        self._key = machine_key(target)
        self.asked: Counter[Layer] = Counter()

    def __call__(self, layer: Layer) -> int | None:
        self.asked[layer] += 1
        return self._chosen(layer)

    def _found(self, layer: Layer) -> Found | None:
        return find(self._tuning.log, workload_of(layer), self._key, accepts)

    def _chosen(self, layer: Layer) -> int | None:
        found = self._found(layer)
        return None if found is None else int(found.record.parameters[PARAMETER])

    def to_json(self) -> list[dict[str, Any]]:
        """What the manifest keeps of each layer with rivals, as of a tuned kernel."""
        entries = []
        for layer in self.asked:
            if len(rivals(layer, self._target)) > 1:
                found = self._found(layer)
                chosen = rivals(layer, self._target)[0] if found is None else found.record.parameters[PARAMETER]
                entries.append(
                    {
                        "workload": workload_of(layer), "task": text_of(layer), "template": NAME,
                        "version": version(), "algorithm": "choice", "parameters": {PARAMETER: int(chosen)},
                        "from": "default" if found is None else found.source,
                    }
                )  # fmt: skip
        return entries

    def measure(self, weight_bytes: int) -> Spent:
        """Measure the layers that were asked about and never measured here, within a share of the budget."""
        budget = self._tuning.budget
        layers = [layer for layer in self._in_order() if not self._is_known(layer)]
        if budget is None or not layers or self._tuning.rpc is not None:  # on servers, kernels alone are measured
            return Spent()
        check_runs(self._target)
        start, changed = time.monotonic(), False
        setup = Setup(
            self._tuning.builder, self._target, target_to_json(self._target), self._key, weight_bytes
        )
        with Session(setup, self._tuning.log) as session:
            for layer in layers:
                if (time.monotonic() - start) > SHARE * (budget.seconds or np.inf):
                    break
                if session.measurements + ROUNDS * len(ALGORITHMS) > SHARE * (budget.trials or np.inf):
                    break
                before = self._chosen(layer)
                by_formula = rivals(layer, self._target)[0]
                self._tuning.log.extend(_measured(layer, self._target, self._key, session))
                changed = changed or self._chosen(layer) != (by_formula if before is None else before)
            return Spent(session.measurements, time.monotonic() - start, changed)

    def _in_order(self) -> list[Layer]:
        """Layers with rivals, those with most time first."""
        contested = [layer for layer in self.asked if len(rivals(layer, self._target)) > 1]
        return sorted(contested, key=lambda one: -self.asked[one] * min(costs(one, self._target).values()))

    def _is_known(self, layer: Layer) -> bool:
        found = self._found(layer)
        return found is not None and found.source == "exact"


def left_of(budget: Budget | None, spent: Spent) -> Budget | None:
    """What of a budget is left for kernels."""
    if budget is None:
        return None
    if budget.trials is not None:
        return replace(budget, trials=budget.trials - spent.measurements)
    return replace(budget, seconds=max(0.0, (budget.seconds or 0.0) - spent.seconds))


def rivals(layer: Layer, target: Target) -> list[int]:
    """The algorithms worth comparing, by their numbers, the formula's choice first."""
    cycles = costs(layer, target)
    best = min(cycles.values())
    return [out for out in sorted(cycles, key=lambda out: cycles[out]) if cycles[out] <= RIVAL * best]


def workload_of(layer: Layer) -> str:
    """sha256 (hex) of what the layer is."""
    return hashlib.sha256(f"{NAME} {sorted(asdict(layer).items())}".encode()).hexdigest()


def text_of(layer: Layer) -> str:
    return f"convolution 3x3 {layer.channels} -> {layer.out_channels}, {layer.rows}x{layer.columns}"


def version() -> int:
    """Changes when a schedule of either does: what was measured of others says nothing of them."""
    known = templates()
    return 100 * known["conv2d"].version + known["winograd_conv2d"].version


def accepts(record: Record) -> bool:
    same = (record.template, record.template_version) == (NAME, version())
    return same and record.parameters.get(PARAMETER) in ALGORITHMS


def _measured(layer: Layer, target: Target, key: MachineKey, session: Session) -> list[Record]:
    """A record for each rival, the formula's choice first: of equals the first counts."""
    tasks = {out: kernel_of(layer, out, target) for out in rivals(layer, target)}
    times: dict[int, list[float]] = {out: [] for out in tasks}
    for _ in range(ROUNDS):
        searches = {out: TaskSearch(task, [task.choices.default]) for out, task in tasks.items()}
        session.run(list(searches.values()), Budget(trials=session.measurements + len(searches)))
        for out, search in searches.items():
            times[out] += [] if search.default_latency is None else [search.default_latency]
    return [
        Record(
            workload=workload_of(layer), task=text_of(layer), template=NAME, template_version=version(),
            algorithm="choice", parameters={PARAMETER: out}, isa=key.isa, threads=key.threads, cache=key.cache,
            machine=key.machine, status="ok", seconds=tuple(each), error="",
            features={name: float(value) for name, value in asdict(layer).items()}, versions=key.versions,
            when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )
        for out, each in times.items()
        if len(each) == ROUNDS  # one that failed is no choice
    ]  # fmt: skip


def kernel_of(layer: Layer, algorithm: int, target: Target) -> Task:
    """The layer's kernel by one algorithm, with a bias and a ReLU as in most networks."""
    random = np.random.default_rng(0)

    def constant(*shape: int) -> relax.Constant:
        return relax.const(random.standard_normal(shape, np.float32), "float32")

    shape = (1, layer.channels, layer.rows, layer.columns)
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        weight = constant(layer.out_channels, layer.channels, 3, 3)
        y = builder.emit(relax.op.nn.conv2d(x, weight, padding=(1, 1, 1, 1)))
        y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, constant(1, layer.out_channels, 1, 1)))))
        builder.emit_func_output(builder.emit(relax.Tuple([y])))
    with chosen_by(lambda _: algorithm):
        module, _ = lift_weights(Pipeline("O2").optimize(builder.get(), target))
    tasks = tasks_of(module, target, Contract((TensorSpec("x", "float32", shape),), (), {}), least=1)
    (task,) = [one for one in tasks if "conv2d" in one.choices.template]
    return task
