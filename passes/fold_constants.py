"""Evaluate operators whose inputs are all constants, in NumPy.

TVM's ``FoldConstant`` builds a function for each folded operator (20 s for the BatchNormalizations of one
network); the operators that weights meet on their way to a kernel are few and NumPy has them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from .bindings import each_function
from .constants import as_array, as_int, constant, op_name

MAX_BYTES = 1 << 30
"""A larger result stays an operator: folding ``broadcast_to`` must not fill the memory."""


def _int_shape(shape: relax.Expr) -> tuple[int, ...] | None:
    dims = [as_int(dim) for dim in shape.values] if isinstance(shape, relax.ShapeExpr) else [None]
    return None if None in dims else tuple(d for d in dims if d is not None)


def _axes(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(int(axis) for axis in value)


def _permute(call: relax.Call, x: np.ndarray) -> np.ndarray:
    return np.transpose(x, _axes(call.attrs.axes))


def _reshape(call: relax.Call, x: np.ndarray) -> np.ndarray | None:
    shape = _int_shape(call.args[1])
    return None if shape is None else x.reshape(shape)


def _broadcast_to(call: relax.Call, x: np.ndarray) -> np.ndarray | None:
    shape = _int_shape(call.args[1])
    return None if shape is None else np.broadcast_to(x, shape)


def _astype(call: relax.Call, x: np.ndarray) -> np.ndarray:
    return x.astype(as_dtype(call.ty))


def as_dtype(ty: relax.TensorType) -> np.dtype:
    return np.empty(0, str(ty.dtype)).dtype


def _binary(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    def run(call: relax.Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return function(a, b).astype(as_dtype(call.ty), copy=False)

    return run


def _unary(function: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    def run(call: relax.Call, x: np.ndarray) -> np.ndarray:
        return np.asarray(function(x)).astype(as_dtype(call.ty), copy=False)

    return run


_FOLDERS: dict[str, Callable[..., np.ndarray | None]] = {
    "relax.permute_dims": _permute,
    "relax.reshape": _reshape,
    "relax.broadcast_to": _broadcast_to,
    "relax.astype": _astype,
    "relax.expand_dims": lambda call, x: np.expand_dims(x, _axes(call.attrs.axis) or ()),
    "relax.add": _binary(np.add),
    "relax.subtract": _binary(np.subtract),
    "relax.multiply": _binary(np.multiply),
    "relax.divide": _binary(np.divide),
    "relax.maximum": _binary(np.maximum),
    "relax.minimum": _binary(np.minimum),
    "relax.power": _binary(np.power),
    "relax.sqrt": _unary(np.sqrt),
    "relax.rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "relax.negative": _unary(np.negative),
    "relax.exp": _unary(np.exp),
}
# Integers have rules of their own for these: they are left to the kernels.
_FLOAT_ONLY = {"relax.divide", "relax.power", "relax.sqrt", "relax.rsqrt", "relax.exp"}


@mutator
class _Folder(PyExprMutator):
    def __init__(self, mod: tvm.IRModule):
        super().__init__(mod)
        self.count = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        name = op_name(call)
        folder = _FOLDERS.get(name)
        if folder is None:
            return call
        operands = [arg for arg in call.args if not isinstance(arg, relax.ShapeExpr)]
        known = [array for arg in operands if (array := self._known(arg)) is not None]
        if len(known) < len(operands):
            return call
        if name in _FLOAT_ONLY and known[0].dtype.kind not in "fV":
            return call
        with np.errstate(all="ignore"):
            result = folder(call, *known)
        if result is None or result.nbytes > MAX_BYTES:
            return call
        self.count += 1
        return constant(result)

    def _known(self, arg: relax.Expr) -> np.ndarray | None:
        bound = self.lookup_binding(arg) if isinstance(arg, relax.Var) else arg
        return None if bound is None else as_array(bound)


@each_function
def fold_constants(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many operators were folded."""
    folder = _Folder(mod)
    function = folder.visit_expr(mod[name])
    mod = mod.clone()
    mod[name] = function
    return mod, folder.count
