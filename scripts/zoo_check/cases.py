"""Which inputs a model is checked with: random seeds, one realistic input, and each open dim changed in turn.

A case is a name and the feeds of one run. Shapes come from zoo.json, open dims from the artifact's contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zoo_models.catalog import Entry

Feeds = dict[str, npt.NDArray[Any]]
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Input:
    """One input as the artifact describes it: dims are sizes or names."""

    name: str
    dtype: str
    shape: Sequence[int | str]


class Listed(Protocol):
    """What says the inputs to measure with: an entry of a catalog."""

    @property
    def ranges(self) -> Mapping[str, Sequence[int]]:
        """Half-open ranges of random integers, by input."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The listed shape of the input ``name``."""


def listed_sizes(entry: Listed, inputs: Sequence[Input]) -> dict[str, int]:
    """The size that the catalog lists for each open dim."""
    return {
        dim: size
        for item in inputs
        for dim, size in zip(item.shape, entry.shape(item.name), strict=True)
        if isinstance(dim, str)
    }


def random_cases(entry: Entry, inputs: Sequence[Input]) -> Iterator[tuple[str, Feeds]]:
    """The listed sizes with each seed; each open dim alone at a prime and at 1; what zoo.json lists beside that."""
    sizes = listed_sizes(entry, inputs)
    for seed in SEEDS:
        yield f"seed {seed}", random_feeds(entry, inputs, sizes, seed)
    for dim, size in sizes.items():
        for changed in sorted({prime_below(size), 1} - {size}):
            yield f"{dim}={changed}", random_feeds(entry, inputs, {**sizes, dim: changed}, seed=7)
    for further in entry.also:
        name = " ".join(f"{dim}={size}" for dim, size in further.items())
        yield name, random_feeds(entry, inputs, {**sizes, **further}, seed=8)


def prime_below(size: int) -> int:
    """The largest odd prime below ``size``, or 3 if there is none."""
    primes = (n for n in range(size - 1, 2, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))
    return next(primes, 3)


def random_feeds(entry: Listed, inputs: Sequence[Input], sizes: Mapping[str, int], seed: int) -> Feeds:
    """Normal floats; integers from the ranges that the catalog states."""
    random = np.random.default_rng(seed)
    feeds: Feeds = {}
    for item in inputs:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in item.shape]
        if item.name in entry.ranges:
            low, high = entry.ranges[item.name]
            feeds[item.name] = random.integers(low, high, shape).astype(item.dtype)
        else:
            feeds[item.name] = random.standard_normal(shape).astype(item.dtype)
    return feeds
