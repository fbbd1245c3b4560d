"""Convolutions and products of dequantized tensors are computed with the integers.

``conv(dequantize(x), dequantize(w))`` becomes ``astype(conv(x, w) + shift, float32) * scale``, with sums in int32:
(x - z) * w sums to x * w less z times the sum of the weights, which is known. What follows (bias, activation, the next
quantization) stays as it was, and is fused behind the kernel. Operators that only move or compare elements (max pool,
reshape, transpose, concat) take the integers too, and the dequantization goes behind them.

Kernels multiply uint8 by int8: signed data moves up by 128, with its zero point. Weights are signed, or less their zero
point fit in a signed byte. Sums can't overflow: where they might, the operator stays in floating point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import array_of, as_array, constant, dtype_of, is_constant, op_name, shape_of
from .quantized_form import dequantize, dequantized, quantization_of

LARGEST_SUM = 2**31 - 1


@dataclass
class _Known:
    """What a variable is known to dequantize: ``data`` is a tensor of integers or a constant."""

    data: relax.Expr
    scale: np.ndarray
    zero: np.ndarray

    def like(self, data: relax.Expr) -> _Known:
        return _Known(data, self.scale, self.zero)

    @property
    def single(self) -> bool:
        return self.scale.size == 1 and self.zero.size == 1


class _Rewriter:
    """One forward sweep: dequantized variables are bound only where something reads their real values."""

    def __init__(self, mod: tvm.IRModule, name: str):
        self.mod = mod
        self.build = BindingBuilder(mod, name)
        self.known: dict[relax.Var, _Known] = {}
        self.pending: set[relax.Var] = set()
        self.unsigned: dict[relax.Expr, relax.Var] = {}
        self.count = 0

    def run(self, function: relax.Function) -> tuple[tvm.IRModule, int]:
        for binding in bindings_of(function):
            value: Any = binding.value if isinstance(binding, relax.VarBinding) else None
            if value is not None and isinstance(binding.var.ty, relax.TensorType) and self._take(binding.var, value):
                continue
            self._restore(binding.value)
            self.build.keep(binding)
        self._restore(function.body.body)
        return self.build.finish(function), self.count

    def _take(self, var: relax.Var, value: Any) -> bool:
        """Whether the binding is done with: known as dequantized, or bound to an integer form."""
        form = quantization_of(self.mod, value)
        if form is not None and form.kind == "dequantize":
            if dtype_of(form.data) not in ("int8", "uint8") or (not form.single and not is_constant(form.data)):
                return False
            self._note(var, _Known(form.data, form.scale, form.zero))
            return True
        if form is not None:
            source = self.known.get(form.data) if isinstance(form.data, relax.Var) else None
            if source is None or not _same(source, form, dtype_of(var)) or is_constant(source.data):
                return False
            self.build.bind(var, source.data)  # quantized again as it was
            return True
        rule = _RULES.get(op_name(value))
        return rule is not None and rule(self, var, value)

    def _note(self, var: relax.Var, known: _Known) -> None:
        self.known[var] = known
        self.pending.add(var)

    def _restore(self, expr: relax.Expr) -> None:
        """Bind the pending variables that ``expr`` reads, in branches too, to their real values."""
        for var in relax.analysis.free_vars(expr):
            if var in self.pending:
                self.pending.discard(var)
                known = self.known[var]
                array = as_array(known.data)
                if array is not None:
                    self.build.bind(var, constant(dequantized(array, known.scale, known.zero)))
                else:
                    self.build.bind(var, dequantize(self.build.builder, known.data, known.scale, known.zero))

    def operands(self, value: relax.Call) -> tuple[_Known, _Known] | None:
        """Data with one scale, and constant weights, both as integers."""
        data, weight = (self.known.get(arg) if isinstance(arg, relax.Var) else None for arg in value.args[:2])
        if data is None or weight is None or not data.single or not is_constant(weight.data):
            return None
        return None if is_constant(data.data) else (data, weight)

    def as_unsigned(self, data: _Known) -> tuple[relax.Expr, int]:
        """The data as uint8, and its zero point."""
        zero = int(data.zero.reshape(-1)[0])
        if dtype_of(data.data) == "uint8":
            return data.data, zero
        if data.data not in self.unsigned:
            wide = self.build.emit(relax.op.astype(data.data, "int16"))
            moved = self.build.emit(relax.op.add(wide, relax.const(128, "int16")))
            self.unsigned[data.data] = self.build.emit(relax.op.astype(moved, "uint8"))
        return self.unsigned[data.data], zero + 128

    def scaled(self, var: relax.Var, sums: relax.Expr, shift: np.ndarray, scale: np.ndarray) -> None:
        """``var`` = (sums + shift) * scale; both broadcast to the sums."""
        total = self.build.emit(sums)
        if shift.any():
            total = self.build.emit(relax.op.add(total, constant(shift)))
        real = self.build.emit(relax.op.astype(total, "float32"))
        self.build.bind(var, relax.op.multiply(real, constant(scale)))
        self.count += 1


def _same(source: _Known, form: Any, dtype: str) -> bool:
    """Whether quantizing by ``form`` gives back the integers of ``source``."""
    equal = np.array_equal(source.scale.reshape(-1), form.scale.reshape(-1))
    return equal and np.array_equal(source.zero.reshape(-1), form.zero.reshape(-1)) and dtype_of(source.data) == dtype


def _signed(array: np.ndarray, zero: np.ndarray) -> np.ndarray | None:
    """``array - zero`` as int8; None where it doesn't fit."""
    wide = array.astype(np.int32) - zero
    if wide.size == 0 or wide.min() < -128 or wide.max() > 127:
        return None
    return wide.astype(np.int8)


def _conv2d(rewriter: _Rewriter, var: relax.Var, value: relax.Call) -> bool:
    found = rewriter.operands(value)
    attrs, dims = value.attrs, shape_of(value.args[0])
    if found is None or attrs.data_layout != "NCHW" or dtype_of(var) != "float32" or dims is None:
        return False
    data, weight = found
    values = _signed(array_of(weight.data), weight.zero)
    scale = _along(weight.scale, 0, 4)
    groups = int(attrs.groups)
    if values is None or scale is None or not (groups == 1 or groups == values.shape[0] == dims[1]):
        return False
    if np.abs(values.astype(np.int64)).reshape(len(values), -1).sum(1).max() * 255 > LARGEST_SUM:
        return False
    integers, zero = rewriter.as_unsigned(data)
    padding = [int(size) for size in attrs.padding]
    if zero and any(padding):
        top, left, bottom, right = padding
        widths = [0, 0, 0, 0, top, bottom, left, right]
        integers = rewriter.build.emit(relax.op.nn.pad(integers, widths, "constant", zero))
        padding = [0, 0, 0, 0]
    window = (attrs.strides, padding, attrs.dilation, attrs.groups)
    sums = relax.op.nn.conv2d(integers, constant(values), *window, "NCHW", "OIHW", "NCHW", "int32")
    shift = -zero * values.astype(np.int64).reshape(len(values), -1).sum(1)
    shape = (1, -1, 1, 1)
    by = (scale * data.scale.reshape(-1)[0]).reshape(shape)
    rewriter.scaled(var, sums, shift.astype(np.int32).reshape(shape), by)
    return True


def _matmul(rewriter: _Rewriter, var: relax.Var, value: relax.Call) -> bool:
    found = rewriter.operands(value)
    dims = shape_of(value.args[0])
    if found is None or dims is None or len(dims) < 2 or dtype_of(var) != "float32":
        return False
    data, weight = found
    array = array_of(weight.data)
    values = _signed(array, weight.zero)
    scale = _along(weight.scale, 1, 2)
    if values is None or scale is None or array.ndim != 2:
        return False
    if np.abs(values.astype(np.int64)).sum(0).max() * 255 > LARGEST_SUM:
        return False
    integers, zero = rewriter.as_unsigned(data)
    shift = (-zero * values.astype(np.int64).sum(0)).astype(np.int32)
    shape = [1] * (len(dims) - 1) + [-1]
    sums = relax.op.matmul(integers, constant(values), "int32")
    rewriter.scaled(var, sums, shift.reshape(shape), (scale * data.scale.reshape(-1)[0]).reshape(shape))
    return True


def _along(scale: np.ndarray, axis: int, rank: int) -> np.ndarray | None:
    """Scales as a vector along ``axis``; None where they vary along another."""
    if scale.size == 1:
        return scale.reshape(-1)
    if scale.ndim != rank or scale.shape[axis] != scale.size:
        return None
    return scale.reshape(-1)


def _mover(rewriter: _Rewriter, var: relax.Var, value: relax.Call) -> bool:
    """Elements keep their values: the operator moves them, or picks the largest of some."""
    source = rewriter.known.get(value.args[0]) if isinstance(value.args[0], relax.Var) else None
    if source is None:
        return False
    array = as_array(source.data)
    if array is not None:
        return _move_weight(rewriter, var, value, source, array)
    if not source.single:
        return False
    call = tvm.ir.Call(value.op, [source.data, *value.args[1:]], value.attrs, value.ty_args)
    rewriter._note(var, source.like(rewriter.build.emit(call, f"{var.name}_integers")))
    rewriter.count += 1
    return True


def _move_weight(rewriter: _Rewriter, var: relax.Var, value: relax.Call, source: _Known, array: np.ndarray) -> bool:
    if op_name(value) != "relax.permute_dims":
        return False
    axes = value.attrs.axes
    order = [int(axis) for axis in axes] if axes is not None else list(reversed(range(array.ndim)))

    def moved(parameter: np.ndarray) -> np.ndarray:
        return parameter.transpose(order) if parameter.ndim == array.ndim else parameter

    moved_weight = constant(np.ascontiguousarray(array.transpose(order)))
    rewriter._note(var, _Known(moved_weight, moved(source.scale), moved(source.zero)))
    return True


def _concat(rewriter: _Rewriter, var: relax.Var, value: relax.Call) -> bool:
    fields = list(value.args[0].fields) if isinstance(value.args[0], relax.Tuple) else []
    known = [rewriter.known.get(field) if isinstance(field, relax.Var) else None for field in fields]
    found = [item for item in known if item is not None]
    if not found or len(found) < len(fields) or any(is_constant(item.data) or not item.single for item in found):
        return False
    first = found[0]
    if not all(_same(item, first, dtype_of(first.data)) for item in found):
        return False
    joined = rewriter.build.emit(relax.op.concat([item.data for item in found], value.attrs.axis))
    rewriter._note(var, first.like(joined))
    rewriter.count += 1
    return True


_RULES: dict[str, Callable[[_Rewriter, relax.Var, relax.Call], bool]] = {
    "relax.nn.conv2d": _conv2d,
    "relax.matmul": _matmul,
    "relax.concat": _concat,
    **dict.fromkeys(
        (
            "relax.nn.max_pool2d",
            "relax.reshape",
            "relax.permute_dims",
            "relax.squeeze",
            "relax.expand_dims",
            "relax.flatten",
        ),
        _mover,
    ),
}


@each_function
def integer_arithmetic(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many operators compute with integers now."""
    return _Rewriter(mod, name).run(mod[name])
