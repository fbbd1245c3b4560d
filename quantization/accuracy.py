"""How close a quantized model is to its float form: what is compared, and the budget that must hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .calibration_data import load_function

Metric = Callable[[Any], float]
"""Takes a session, gives a number; the larger, the better."""

Outputs = Sequence[np.ndarray]
Pairs = Iterable[tuple[Outputs, Outputs]]
"""Float and quantized outputs, sample by sample."""


def agreement(pairs: Pairs) -> float:
    """The share of decisions that are the same: places of the largest element along the last axis of outputs that have
    one, elements of integer outputs."""
    same = total = 0
    for expected, found in pairs:
        for a, b in zip(expected, found, strict=True):
            if a.dtype.kind == "f" and (a.ndim == 0 or a.shape[-1] < 2):
                continue
            if a.dtype.kind == "f":
                a, b = a.argmax(axis=-1), b.argmax(axis=-1)
            same += int((a == b).sum()) if a.shape == b.shape else 0
            total += a.size
    if not total:
        raise UsageError(
            "the model's outputs hold no decisions that could agree", hint="use --metric cosine, or a function"
        )
    return same / total


def cosine(pairs: Pairs) -> float:
    """The mean cosine between outputs as vectors, over samples and float outputs."""
    found = [
        _cosine(a.astype(np.float64).ravel(), b.astype(np.float64).ravel())
        for pair in pairs
        for a, b in zip(*pair, strict=True)
        if a.dtype.kind == "f" and a.size
    ]
    if not found:
        raise UsageError("the model has no float output to compare", hint="use --metric agreement, or a function")
    return float(np.mean(found))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not lengths:
        return float(not a.any() and not b.any())
    return float(a @ b) / lengths


COMPARISONS: dict[str, Callable[[Pairs], float]] = {"agreement": agreement, "cosine": cosine}
"""Metrics that need no labels; the float model's own value is 1."""


@dataclass(frozen=True)
class Budget:
    """How far ``metric`` may fall below the float model's value: by ``drop``, or by that share of it (``relative``).

    ``metric`` is one of ``COMPARISONS``, "module:function", or a function of a session.
    """

    drop: float
    relative: bool
    metric: str | Metric

    def least(self, value: float) -> float:
        """What a quantized model must reach when the float model has ``value``."""
        return value - (abs(value) * self.drop if self.relative else self.drop)

    @property
    def name(self) -> str:
        return self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "metric")

    def __str__(self) -> str:
        return f"{self.name} at most {f'{100 * self.drop:g} %' if self.relative else f'{self.drop:g}'} below fp32's"


def parse_budget(max_drop: str | float, metric: str | Metric | None) -> Budget:
    """``1%`` is a share of the float model's value, ``0.01`` a difference. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", str(max_drop), re.ASCII)
    if match is None:
        raise UsageError(f"max drop {max_drop!r} is neither a share such as 1% nor a difference such as 0.01")
    number = float(match[1])
    return Budget(number / 100 if match[2] else number, bool(match[2]), metric or "agreement")


def evaluated(metric: str | Metric, session: Any) -> float:
    """The metric's value for a session. Raises UsageError when it raises, or gives no finite number."""
    function = (
        load_function(metric, "metric", "agreement, cosine, or module:function") if isinstance(metric, str) else metric
    )
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
    try:
        value = float(function(session))
    except Exception as error:
        raise UsageError(f"the metric {name} failed: {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise UsageError(f"the metric {name} gave {value}, which is no measure")
    return value


def fewest(order: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> list[str] | None:
    """The shortest beginning of ``order`` that holds, taking it that a longer one holds as well; None when none does.

    Found by doubling, then halving: each question may be a whole compile.
    """
    low, high = -1, 0
    while not holds(order[:high]):
        if high == len(order):
            return None
        low, high = high, min(max(2 * high, 1), len(order))
    while high - low > 1:
        middle = (low + high) // 2
        if holds(order[:middle]):
            high = middle
        else:
            low = middle
    return list(order[:high])
