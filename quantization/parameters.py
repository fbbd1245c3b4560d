"""Scales and zero points, and weights as integers: ``real = (integer - zero) * scale``.

Activations are uint8 over a range that holds 0 (so that padding is exact), weights int8 around 0 with one scale for
each output channel: the pair that x86's dot-product instructions multiply. Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference", https://arxiv.org/abs/1806.08342.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = 255
LIMIT = 127
"""Weights leave -128 out, so that their range is symmetric."""

SMALLEST = 1e-30
"""A range narrower than this is one of a constant 0: its scale would not be a normal float32."""

SUM_LIMIT = float(1 << 30)
"""Biases stay below this in int32, which leaves room for the products."""


@dataclass(frozen=True)
class Range:
    """The real numbers from ``low`` to ``high`` that a tensor's integers stand for."""

    low: float
    high: float

    def with_zero(self) -> Range:
        return Range(min(self.low, 0.0), max(self.high, 0.0))


@dataclass(frozen=True)
class Affine8:
    """uint8: ``scale`` as float32 holds it, ``zero`` from 0 to 255."""

    scale: float
    zero: int


def affine_of(bounds: Range) -> Affine8:
    """The uint8 scale that covers a range and 0. A range of nothing but 0 has scale 1."""
    whole = bounds.with_zero()
    spread = whole.high - whole.low
    if spread <= SMALLEST:
        return Affine8(1.0, 0)
    scale = float(np.float32(spread / LEVELS))
    return Affine8(scale, int(np.clip(np.rint(-whole.low / scale), 0, LEVELS)))


@dataclass(frozen=True)
class IntegerWeight:
    """int8 ``values`` in the float weight's shape; ``scales`` float32, one for each place of ``axis``."""

    values: np.ndarray
    scales: np.ndarray
    axis: int

    def real(self) -> np.ndarray:
        """What the integers stand for, in float32."""
        shape = [-1 if i == self.axis else 1 for i in range(self.values.ndim)]
        return self.values.astype(np.float32) * self.scales.reshape(shape)


def quantize_weight(
    weight: np.ndarray, axis: int, per_channel: bool = True, least: np.ndarray | None = None
) -> IntegerWeight:
    """A float weight as int8 with a scale for each place of ``axis`` (the same one for all unless ``per_channel``).

    ``least`` bounds the scales from below.
    """
    moved = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest = np.abs(moved).max(axis=1, initial=0).astype(np.float64)
    if not per_channel:
        largest[:] = largest.max(initial=0)
    scales = np.where(largest > SMALLEST * LIMIT, largest / LIMIT, 1.0).astype(np.float32)
    if least is not None:
        scales = np.maximum(scales, least.astype(np.float32))
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    integers = np.clip(np.rint(weight / scales.reshape(shape)), -LIMIT, LIMIT).astype(np.int8)
    return IntegerWeight(integers, scales, axis)


def scales_for_bias(bias: np.ndarray, data_scale: float) -> np.ndarray:
    """The least scales of a weight with which its bias fits into int32.

    A channel that they bind has weights that are next to nothing beside its bias.
    """
    return (np.abs(bias.astype(np.float64)) / (SUM_LIMIT * data_scale)).astype(np.float32)


def quantize_bias(bias: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """int32 of a bias in units of ``scales`` (one a channel), which are at least ``scales_for_bias`` long."""
    units = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(units, -2 * SUM_LIMIT, 2 * SUM_LIMIT - 1).astype(np.int32)
