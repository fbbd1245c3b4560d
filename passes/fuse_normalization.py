"""LayerNormalization and RMSNormalization from the pieces that exporters write, as one operator each.

Pieces are ``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + shift``, or without means and shift
(arXiv:1910.07467), over the last axis; squares by Mul or Pow, the division also as a product with an inverse, factors
in any order. One kernel then reads a row once from memory, where pieces pass over it three or four times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, count_uses, each_function
from .constants import as_array, constant, dtype_of, op_name, shape_of

Expr = Any


@each_function
def fuse_normalization(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many normalisations became one operator. What fed them is left for dead code."""
    function = mod[name]
    values = {b.var: b.value for b in bindings_of(function) if isinstance(b, relax.VarBinding)}
    found = _Pieces(values, count_uses(function)).found()
    build = BindingBuilder(mod, name)
    for binding in bindings_of(function):
        if binding.var in found:
            build.bind(binding.var, found[binding.var])
        else:
            build.keep(binding)
    return build.finish(function), len(found)


def _dtype(value: Expr) -> str:
    return dtype_of(value) if isinstance(value.ty, relax.TensorType) else ""


class _Pieces:
    """``values`` are what variables are bound to, ``uses`` how often they are read."""

    def __init__(self, values: Mapping[relax.Var, Expr], uses: Counter[relax.Var]):
        self.values, self.uses = values, uses

    def found(self) -> dict[relax.Var, relax.Call]:
        """The operator for each variable that is a normalisation's result."""
        floats = [(var, value) for var, value in self.values.items() if _dtype(value) == "float32"]
        found = {var: call for var, value in floats if (call := self.layer_norm(value)) is not None}
        inner = {arg for var in found for arg in self.values[var].args if isinstance(arg, relax.Var)}
        for var, value in floats:
            if var not in inner and (call := self.rms_norm(value)) is not None:
                found[var] = call
        return found

    def layer_norm(self, value: Expr) -> relax.Call | None:
        """``value`` is the sum with ``shift``."""
        for scaled, shift in self._operands(value, "relax.add"):
            for normal, scale in self._operands(self._private(scaled), "relax.multiply"):
                found = self._normalized(self._private(normal))
                data = None if found is None else self._centered(found[0])
                if found is None or data is None:
                    continue
                parameters = [_vector(parameter, data) for parameter in (scale, shift)]
                if all(parameter is not None for parameter in parameters) and _keeps_shape(value, data):
                    return relax.op.nn.layer_norm(data, *parameters, axes=[-1], epsilon=found[1])
        return None

    def rms_norm(self, value: Expr) -> relax.Call | None:
        """``value`` is the product with ``scale``."""
        for normal, scale in self._operands(value, "relax.multiply"):
            found = self._normalized(self._private(normal))
            parameter = None if found is None else _vector(scale, found[0])
            if found is not None and parameter is not None and _keeps_shape(value, found[0]):
                return relax.op.nn.rms_norm(found[0], parameter, axes=[-1], epsilon=found[1])
        return None

    def _normalized(self, value: Expr) -> tuple[Expr, float] | None:
        """(x, epsilon) of ``x / sqrt(mean(x^2) + epsilon)``."""
        candidates = [(value.args[0], value.args[1])] if op_name(value) == "relax.divide" else []
        for x, inverse in self._operands(value, "relax.multiply"):
            bound = self._bound(inverse)
            if op_name(bound) == "relax.rsqrt":
                candidates.append((x, bound))
            elif op_name(bound) == "relax.divide" and _number(bound.args[0]) == 1:
                candidates.append((x, bound.args[1]))
        for x, root in candidates:
            epsilon = self._epsilon(x, root)
            if epsilon is not None:
                return x, epsilon
        return None

    def _epsilon(self, x: Expr, root: Expr) -> float | None:
        """The number that is added to the mean of squares of ``x`` under the root."""
        bound = self._bound(root)
        if op_name(bound) not in ("relax.sqrt", "relax.rsqrt"):
            return None
        for mean, added in self._operands(self._bound(bound.args[0]), "relax.add"):
            epsilon, squares = _number(added), self._mean(mean)
            if epsilon is not None and squares is not None and self._is_square(squares, x):
                return epsilon
        return None

    def _mean(self, expr: Expr) -> Expr | None:
        """What it is the mean of, over the last axis, kept."""
        bound = self._bound(expr)
        if op_name(bound) != "relax.mean" or not bound.attrs.keepdims or bound.attrs.axis is None:
            return None
        shape = shape_of(bound.args[0])
        axes = [int(axis) for axis in bound.attrs.axis]
        return bound.args[0] if shape and len(axes) == 1 and axes[0] % len(shape) == len(shape) - 1 else None

    def _is_square(self, expr: Expr, x: Expr) -> bool:
        bound = self._bound(expr)
        if op_name(bound) == "relax.multiply":
            return all(_same(arg, x) for arg in bound.args)
        return op_name(bound) == "relax.power" and _same(bound.args[0], x) and _number(bound.args[1]) == 2

    def _centered(self, expr: Expr) -> Expr | None:
        """What ``expr`` is, less its mean."""
        bound = self._bound(expr)
        if op_name(bound) != "relax.subtract":
            return None
        data, mean = bound.args
        of = self._mean(mean)
        return data if of is not None and _same(of, data) else None

    def _operands(self, value: Expr, name: str) -> Iterator[tuple[Expr, Expr]]:
        """Both orders of the operands of a call of ``name``; nothing for another."""
        if op_name(value) == name:
            yield value.args[0], value.args[1]
            yield value.args[1], value.args[0]

    def _bound(self, expr: Expr) -> Expr:
        return self.values.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def _private(self, expr: Expr) -> Expr:
        """What ``expr`` is bound to, if it is read once: what others read has to be computed anyway."""
        return self._bound(expr) if isinstance(expr, relax.Var) and self.uses[expr] == 1 else None


def _same(left: Expr, right: Expr) -> bool:
    return isinstance(left, relax.Var) and isinstance(right, relax.Var) and left.same_as(right)


def _number(expr: Expr) -> float | None:
    array = as_array(expr)
    return float(array.item()) if array is not None and array.size == 1 and array.ndim <= 1 else None


def _vector(parameter: Expr, data: Expr) -> Expr | None:
    """``parameter`` with one element for each of the last axis of ``data``, if that is what it has."""
    shape = shape_of(data)
    if shape is None or not isinstance(shape[-1], int) or _dtype(parameter) != "float32":
        return None
    dims, array = shape_of(parameter), as_array(parameter)
    if array is not None and 0 < array.ndim <= len(shape) and array.size == array.shape[-1] == shape[-1] > 0:
        return constant(np.ascontiguousarray(array.reshape(-1)))
    return parameter if dims == shape[-1:] and shape[-1] else None


def _keeps_shape(value: Expr, data: Expr) -> bool:
    """Whether the parameters added no axes: the result has the operand's rank."""
    mine, theirs = shape_of(value), shape_of(data)
    return mine is not None and theirs is not None and len(mine) == len(theirs)
