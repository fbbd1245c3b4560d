"""What an ONNX value is while a graph is being converted.

A value is one of three things:

* ``numpy.ndarray``: known now, an initializer or something folded from constants alone;
* ``SymbolicInts``: a small integer tensor whose *elements* are expressions over symbolic dims, the way
  exporters compute shapes (``Shape`` → ``Gather`` → ``Mul`` → ``Concat`` → ``Reshape``);
* a Relax expression: known only when the model runs.

Keeping the second kind apart is what lets one artifact serve every size: shapes stay expressions, no tensor is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tvm
from tvm import relax, tirx

from ..errors import ConversionError

PrimExpr = Any
"""A Python int or a scalar TVM expression of dtype int64 (rarely bool)."""


@dataclass(frozen=True)
class SymbolicInts:
    """``elements`` is an object array of ints and int64 expressions; ``dtype`` is what ONNX says the tensor holds.

    Exporters carry sizes through float arithmetic too: with a float dtype an element may also be a
    ``symbolic_ratio.Ratio``.
    """

    elements: np.ndarray
    dtype: str = "int64"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape


Value: TypeAlias = np.ndarray | SymbolicInts | relax.Expr


def as_int(expr: PrimExpr) -> int | None:
    """The Python int that ``expr`` is, or None for a symbolic one."""
    if isinstance(expr, int | np.integer):
        return int(expr)
    if isinstance(expr, tirx.IntImm):
        return int(expr.value)
    return None


def tensor_shape(value: Value) -> tuple[PrimExpr, ...]:
    """The dims of a value: Python ints where fixed, int64 expressions where symbolic."""
    if isinstance(value, np.ndarray | SymbolicInts):
        return tuple(value.shape)
    ty = _type(value)
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise ConversionError(f"a value of type {ty} has no known shape")
    dims = (as_int(dim) if as_int(dim) is not None else dim for dim in ty.shape.values)
    return tuple(dims)


def tensor_dtype(value: Value) -> str:
    """NumPy's name of the element type."""
    if isinstance(value, np.ndarray):
        return value.dtype.name
    if isinstance(value, SymbolicInts):
        return value.dtype
    dtype = _type(value).dtype
    return str(dtype.dtype if hasattr(dtype, "dtype") else dtype)


def _type(value: relax.Expr) -> relax.Type:
    if not isinstance(value, tvm.ir.Expr):
        raise ConversionError("a tensor is needed here, found a sequence or an optional value")
    return value.ty


def rank(value: Value) -> int:
    return len(tensor_shape(value))


def to_constant(array: np.ndarray) -> relax.Expr:
    """A Relax constant holding ``array``."""
    return relax.const(np.ascontiguousarray(array) if array.ndim else array, array.dtype.name)


def symbolic(elements: Sequence[PrimExpr] | np.ndarray | PrimExpr, dtype: str = "int64") -> Value:
    """Integers as a value: a NumPy constant when each is known, else ``SymbolicInts``."""
    array = np.empty(np.shape(elements) if isinstance(elements, np.ndarray | list | tuple) else (), dtype=object)
    array[...] = elements
    for index, element in np.ndenumerate(array):
        known = as_int(element)
        if known is not None:
            array[index] = known
    if all(isinstance(element, int | float | bool | np.generic) for element in array.flat):
        return array.astype(np.dtype(dtype))
    return SymbolicInts(array, dtype)


def is_prim(expr: object) -> bool:
    """Whether ``expr`` is a scalar TVM expression (not a tensor)."""
    return isinstance(expr, tvm.ir.Expr) and tvm.ir.is_prim_expr(expr)
