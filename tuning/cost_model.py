"""Ranks candidates that were not measured yet by what the log says of others: XGBoost on the records' features.

Seconds of different workloads or machines don't compare, so what is learnt is how candidates of the *same* workload on
the same machine compare (a ranking: Chen et al., "Learning to Optimize Tensor Programs", 2018, section 5.1).
One thread and no sampling: the same records give the same order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ToolchainError
from .record import Record

MIN_RECORDS = 24
"""Measurements from which a model is worth asking; with fewer the analytic order stands."""

MIN_GROUP = 2
"""Candidates of one workload and machine below which nothing compares."""

ROUNDS = 120
_PARAMETERS = {
    "objective": "rank:pairwise",
    "lambdarank_pair_method": "mean",
    "lambdarank_num_pair_per_sample": 8,
    "lambdarank_normalization": False,
    "max_depth": 6,
    "eta": 0.15,
    "min_child_weight": 0.1,
    "tree_method": "exact",
    "nthread": 1,
    "verbosity": 0,
}


class CostModel:
    """A trained ranking of candidates of one template."""

    def __init__(self, booster: Any, names: Sequence[str]):
        self._booster = booster
        self._names = tuple(names)

    @classmethod
    def train(cls, records: Iterable[Record], seed: int = 0) -> CostModel | None:
        """Learn from records of one template, of one ISA or several; None when there are too few to learn from.

        Raises ToolchainError when XGBoost is not installed.
        """
        groups = _groups(records)
        if sum(map(len, groups)) < MIN_RECORDS:
            return None
        xgboost = _xgboost()
        names = sorted({name for group in groups for one in group for name in one.features})
        rows = [vector(one.features, names) for group in groups for one in group]
        matrix = xgboost.DMatrix(
            np.array(rows, np.float32), label=np.concatenate([_labels(group) for group in groups]), missing=np.nan
        )
        matrix.set_group([len(group) for group in groups])
        return cls(xgboost.train({**_PARAMETERS, "seed": seed}, matrix, ROUNDS), names)

    def scores(self, candidates: Sequence[Mapping[str, float]]) -> list[float]:
        """A score for each candidate, by its features: higher is expected to be faster."""
        if not candidates:
            return []
        rows = [vector(one, self._names) for one in candidates]
        matrix = _xgboost().DMatrix(np.array(rows, np.float32), missing=np.nan)
        return [float(score) for score in self._booster.predict(matrix)]

    def rank(self, candidates: Sequence[Mapping[str, float]]) -> list[int]:
        """Indices of the candidates, the most promising first; of equals the earlier one."""
        scores = self.scores(candidates)
        return sorted(range(len(candidates)), key=lambda index: (-scores[index], index))


def rank(model: CostModel | None, candidates: Sequence[Mapping[str, float]]) -> list[int]:
    """Indices of the candidates, most promising first: as the model says, or without one in the (analytic) order given.

    The first candidate, the analytic choice, stays first: it is what the others have to beat.
    """
    if model is None or not candidates:
        return list(range(len(candidates)))
    return [0, *(index for index in model.rank(candidates) if index != 0)]


def vector(features: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Features in the order of ``names``, NaN for those it lacks."""
    return [features.get(name, math.nan) for name in names]


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Measurements that compare, in an order that depends on the records alone."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda one: one.digest):
        groups[record.workload, record.machine, str(record.threads)].append(record)
    return [group for _, group in sorted(groups.items()) if len(group) >= MIN_GROUP]


def _labels(group: Sequence[Record]) -> np.ndarray:
    """Speed beside the group's fastest, from 1 down to 0 for what failed."""
    fastest = min(one.latency for one in group)
    return np.array([fastest / one.latency if one.status == "ok" else 0.0 for one in group], np.float32)


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise ToolchainError(
            "ranking candidates needs XGBoost, which is not installed", hint="pip install 'onnxkiln[tune]'"
        ) from error
    return xgboost
