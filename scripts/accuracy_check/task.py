"""What a task is: inputs to calibrate on, inputs to judge by, and what the answers are worth."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
Answers = Sequence[Array]
"""A model's first output, for each input in turn."""


@dataclass(frozen=True)
class Task:
    """``score`` takes a model's answers and the float model's; it gives numbers by name."""

    model: str
    calibration: Sequence[Feeds]
    inputs: Sequence[Feeds]
    score: Callable[[Answers, Answers], dict[str, float]]

    def __post_init__(self) -> None:
        """Nothing that is judged by was calibrated on."""
        shared = {digest(feeds) for feeds in self.calibration} & {digest(feeds) for feeds in self.inputs}
        if shared:
            raise AssertionError(f"{self.model}: {len(shared)} inputs serve both for calibration and for judging")


def digest(feeds: Feeds) -> str:
    """Of all arrays of an input, with their names, dtypes and shapes."""
    found = hashlib.sha256()
    for name, array in sorted(feeds.items()):
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def assert_disjoint(first: Sequence[bytes], second: Sequence[bytes]) -> None:
    """No file of one list is one of the other, by digest."""
    digests = [{hashlib.sha256(data).hexdigest() for data in files} for files in (first, second)]
    if digests[0] & digests[1]:
        raise AssertionError("a picture serves both for calibration and for judging")


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share that ``count`` trials gave (Wilson, 1927)."""
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)
