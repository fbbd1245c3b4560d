"""Discrete Fourier transforms: as a product with a matrix where the length is known, else as plain sums.

A complex number is a pair (real, imaginary) in the last dim, which is 1 for real numbers. Angles are reduced to one
turn in integers before they become floats, so long transforms lose no precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from .arith import floordiv, known, minimum, prim
from .context import prim_list
from .values import PrimExpr

MOST_ELEMENTS = 1 << 23
"""Of a matrix that is stored with the weights."""


@dataclass(frozen=True)
class Transform:
    """One transform of ``length`` points; of a one-sided one the spectrum is the first half and the point after it."""

    length: PrimExpr
    inverse: bool = False
    onesided: bool = False

    @property
    def spectrum(self) -> PrimExpr:
        """The points of the spectrum."""
        return floordiv(self.length, 2) + 1 if self.onesided else self.length

    @property
    def taken(self) -> PrimExpr:
        """How many points of the input count."""
        return self.spectrum if self.inverse else self.length

    @property
    def points(self) -> PrimExpr:
        """How many points come out."""
        return self.length if self.inverse else self.spectrum

    @property
    def parts(self) -> int:
        """1 where the result is real."""
        return 1 if self.inverse and self.onesided else 2

    def matrix(self, size: int, parts: int) -> np.ndarray | None:
        """The transform of ``size`` points of ``parts`` numbers as a float64 matrix, if it isn't too large.

        Points past those that count are left out: it has min(size, taken) * parts rows.
        """
        if not known(self.length):
            return None
        used, points = min(size, int(self.taken)), int(self.points)
        if used * parts * points * self.parts > MOST_ELEMENTS:
            return None
        places = np.arange(used)[:, None] * np.arange(points)[None, :] % int(self.length)
        angles = places * (2 * np.pi / int(self.length))
        cos, sin = np.cos(angles), np.sin(angles) * (1 if self.inverse else -1)
        result = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)[:, :parts, :, : self.parts]
        if self.inverse:
            result = result / int(self.length)
        if self.inverse and self.onesided:  # each point stands for its mirror image too
            weights = np.full(used, 2.0)
            weights[[i for i in _alone(int(self.length)) if i < used]] = 1.0
            result = result * weights[:, None, None, None]
        return result.reshape(used * parts, points * self.parts)


def direct_sums(x: te.Tensor, transform: Transform, axis: PrimExpr, shape: Sequence[PrimExpr]) -> te.Tensor:
    """The transform along ``axis``, which may be known only at run time, into ``shape``; summed up in float64."""
    length = prim(transform.length)
    table = _turns(length)
    t = te.reduce_axis((prim(0), prim(minimum(_at(axis, list(x.shape[:-1])), transform.taken))), "t")
    sign = _real(1 if transform.inverse else -1)

    def element(*i: tirx.Var) -> PrimExpr:
        def number(part: int) -> PrimExpr:
            if known(axis):
                place = [*i[: int(axis)], t.var, *i[int(axis) + 1 : -1]]
            else:
                place = [tirx.Select(tirx.EQ(axis, prim(d)), t.var, at) for d, at in enumerate(i[:-1])]
            return x(*place, prim(part)).astype("float64")

        turn = tirx.floormod(t.var * _at(axis, list(i[:-1])), length)
        cos, sin = table(turn, prim(0)), table(turn, prim(1)) * sign
        is_real = tirx.EQ(i[-1], prim(0))
        value: Any = number(0) * tirx.Select(is_real, cos, sin)
        if int(x.shape[-1]) == 2:
            value = value + number(1) * tirx.Select(is_real, _real(0) - sin, cos)
        if transform.inverse:
            value = value / length.astype("float64")
        if transform.inverse and transform.onesided:
            alone = tirx.Or(tirx.EQ(t.var, prim(0)), tirx.EQ(t.var * 2, length))
            value = value * tirx.Select(alone, _real(1), _real(2))
        return te.sum(value, axis=[t])

    sums = te.compute(prim_list(shape), element, name="fourier_sums")
    return te.compute(prim_list(shape), lambda *i: sums(*i).astype(str(x.dtype)), name="fourier")


def _turns(length: PrimExpr) -> te.Tensor:
    """[length, 2]: cosine and sine of so many equal parts of a turn; exact at quarters, so that what cancels does."""

    def element(i: tirx.Var, part: tirx.Var) -> PrimExpr:
        # A sine is the cosine of a quarter turn less.
        quarters = tirx.floormod(i * 4 - tirx.Select(tirx.EQ(part, prim(0)), prim(0), length), length * 4)
        negative = tirx.all(quarters > length, quarters < length * 3)
        folded = tirx.Select(quarters > length * 2, length * 4 - quarters, quarters)
        folded = tirx.Select(folded > length, length * 2 - folded, folded)
        near_zero = folded * 2 > length
        angle = tirx.Select(near_zero, length - folded, folded).astype("float64") * _real(np.pi / 2)
        angle = angle / length.astype("float64")
        value = tirx.Select(near_zero, tirx.sin(angle), tirx.cos(angle))
        return tirx.Select(negative, _real(0) - value, value)

    return te.compute((length, prim(2)), element, name="turns")


def _real(value: float) -> PrimExpr:
    return tirx.const(float(value), "float64")


def _alone(length: int) -> list[int]:
    """Points of a half spectrum that have no mirror image."""
    return [0] if length % 2 else [0, length // 2]


def _at(axis: PrimExpr, values: list[PrimExpr]) -> PrimExpr:
    """``values[axis]``; the axis may be an expression."""
    if known(axis):
        return values[int(axis)]
    result = prim(values[-1])
    for d in reversed(range(len(values) - 1)):
        result = tirx.Select(tirx.EQ(axis, prim(d)), prim(values[d]), result)
    return result
