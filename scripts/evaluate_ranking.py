#!/usr/bin/env python3
"""What the cost model's ranking is worth: its first picks on tasks it has not seen, beside random picks.

    scripts/evaluate_ranking.py LOG [--picks 8] [--folds 5]

LOG holds spaces that were measured whole (``scripts/measure_spaces.py`` makes one). They are cut into folds in the
order in which they were measured, so that a model's kernels are mostly held out together; for each fold, the cost model
learns from the others' records and ranks the fold's spaces. A pick is good when it is within 3 % of the fastest of its
space. What random picks come to is computed, not drawn. The default is a pick in every row, for it is always measured.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import checkout  # noqa: F401  (makes onnxkiln importable)
from onnxkiln.commands.output import format_table, print_json
from onnxkiln.tuning.cost_model import CostModel
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.ranking import analytic_cost
from onnxkiln.tuning.record import Record

GOOD = 1.03
"""Latency beside the space's best, up to which a pick is good."""


@dataclass(frozen=True)
class Space:
    """All candidates of one workload, one record each, the default first."""

    records: Sequence[Record]

    @property
    def template(self) -> str:
        return self.records[0].template

    def loss(self, picks: Sequence[int]) -> float:
        """Latency of the best pick beside the best of the space, at least 1."""
        best = min(record.latency for record in self.records)
        return min(self.records[index].latency for index in picks) / best


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--picks", type=int, default=8, help="candidates that may be measured (default: 8)")
    parser.add_argument("--folds", type=int, default=5, help="parts that the spaces are cut into (default: 5)")
    parser.add_argument("--smallest", type=int, default=0, help="leave out spaces of fewer candidates (default: none)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    spaces = [space for space in load_spaces(options.log) if len(space.records) >= max(2, options.smallest)]
    if not spaces:
        raise SystemExit(f"{options.log} holds no spaces to rank")
    figures = evaluate(spaces, options.picks, options.folds)
    if options.json:
        print_json(figures)
    else:
        header = ("picks", "spaces", "within 3 %", "mean loss", "worst loss")
        print(format_table(header, [_row(name, values) for name, values in figures.items()]))
    return 0


def _row(name: str, values: dict[str, float]) -> tuple[str, ...]:
    shares = (f"{values[key]:.1%}" for key in ("good", "mean", "worst"))
    return (name, f"{values['spaces']:.0f}", *shares)


def load_spaces(log: Path) -> list[Space]:
    """The spaces of a log, in the order in which they were measured: the fastest record of each candidate."""
    groups: dict[str, dict[tuple[object, ...], Record]] = defaultdict(dict)
    with TuningLog.open(log, write=False, shipped=False) as opened:
        for record in opened.records():
            known = groups[record.workload].get(record.candidate)
            if known is None or record.latency < known.latency:
                groups[record.workload][record.candidate] = record
    # An order that no measurement has part in, but for the default, which is measured first.
    spaces = []
    for group in groups.values():
        default, *others = group.values()
        spaces.append(Space([default, *sorted(others, key=lambda one: repr(one.candidate))]))
    return [space for space in spaces if any(record.status == "ok" for record in space.records)]


def evaluate(spaces: Sequence[Space], picks: int, folds: int) -> dict[str, dict[str, float]]:
    """For each way to pick: the share of spaces with a good pick, and the mean and worst loss."""
    orders: dict[str, Callable[[Space, CostModel | None], list[int]]] = {
        "the cost model's": by_model, "the analytic cost's": by_analytic_cost,
    }  # fmt: skip
    losses: dict[str, list[float]] = {name: [] for name in ["only the default", *orders]}
    chances: list[tuple[float, float]] = []
    bounds = [round(fold * len(spaces) / folds) for fold in range(folds + 1)]
    for start, end in itertools.pairwise(bounds):
        held_out, rest = spaces[start:end], [*spaces[:start], *spaces[end:]]
        models = {name: train(rest, name) for name in {space.template for space in held_out}}
        for space in held_out:
            losses["only the default"].append(space.loss([0]))
            for name, order in orders.items():
                losses[name].append(space.loss([0, *order(space, models[space.template])[: picks - 1]]))
            chances.append(chance(space, picks))
    figures = {name: _figures([loss - 1 for loss in values], [loss <= GOOD for loss in values])
               for name, values in losses.items()}  # fmt: skip
    figures["random"] = _figures([loss - 1 for _, loss in chances], [good for good, _ in chances])
    return figures


def _figures(losses: Sequence[float], good: Sequence[float]) -> dict[str, float]:
    mean, worst = statistics.fmean(losses), max(losses)
    return {"spaces": len(losses), "good": statistics.fmean(good), "mean": mean, "worst": worst}


def train(spaces: Sequence[Space], template: str) -> CostModel | None:
    """A model of what is known of a template."""
    return CostModel.train(record for space in spaces if space.template == template for record in space.records)


def by_model(space: Space, model: CostModel | None) -> list[int]:
    """All but the default, the most promising first."""
    if model is None:
        return by_analytic_cost(space, None)
    return [index for index in model.rank([record.features for record in space.records]) if index]


def by_analytic_cost(space: Space, _model: CostModel | None) -> list[int]:
    """The same, by the formula that serves where the log knows too little."""
    costs = [analytic_cost(record.features) for record in space.records]
    return sorted(range(1, len(space.records)), key=lambda index: (costs[index], index))


def chance(space: Space, picks: int) -> tuple[float, float]:
    """For the default and ``picks`` - 1 others at random: the probability of a good one, the expected loss."""
    losses = sorted(space.loss([index]) for index in range(1, len(space.records)))
    default, drawn = space.loss([0]), min(picks - 1, len(losses))
    total = math.comb(len(losses), drawn)
    expected, good = 0.0, 0.0
    for rank, loss in enumerate(losses):
        # The best of those drawn is this one: all others drawn are slower.
        probability = math.comb(len(losses) - rank - 1, drawn - 1) / total if drawn else 0.0
        expected += probability * min(loss, default)
        good += probability * (min(loss, default) <= GOOD)
    return (good, expected) if drawn else (float(default <= GOOD), default)


if __name__ == "__main__":
    sys.exit(main())
