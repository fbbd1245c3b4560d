"""Random inputs that fit a contract."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contract import Contract, TensorSpec
from .dtypes import numpy_dtype


def random_feeds(contract: Contract, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Normal floats, integers and bools of 0 and 1; open dims without a size are as small as they may be, but not 0."""
    random = np.random.default_rng(seed)
    smallest = {name: max(bounds.minimum, 1) for name, bounds in contract.dims.items()}
    return {spec.name: _random_array(random, spec, {**smallest, **sizes}) for spec in contract.inputs}


def _random_array(random: np.random.Generator, spec: TensorSpec, sizes: Mapping[str, int]) -> np.ndarray:
    shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape]
    dtype = numpy_dtype(spec.dtype)
    if dtype.kind in "iub":
        return random.integers(0, 2, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)
