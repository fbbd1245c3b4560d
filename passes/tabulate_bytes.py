"""Functions of one byte become tables of 256 bytes.

Between a tensor of bytes and the next quantization a graph often computes element by element: another scale, a
clip, a sigmoid, the steps of HardSwish with a quantization behind each. All of that together is a function of one byte,
evaluated here for each of the 256, and looked up when the model runs.

The table is kept as 64 words of four bytes: an element's upper six bits choose the word, its lower two the byte in it.
Where vectors have 16 lanes, the word comes out of four registers (``permute_tables``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, te, tirx

from .bindings import BindingBuilder, bindings_of, each_function
from .call_kernel import call_kernel
from .constants import as_array, constant, dims_of, dtype_of, op_name, shape_of
from .quantized_form import Quantization, quantization_of

WORDS, BYTES = 64, 4
LOOKUP = "kiln.lookup"
"""Attribute of the functions that look bytes up."""
INJECTIVE, ELEMENTWISE = 2, 0
"""TVM's ``OpPatternKind``."""


@dataclass
class _Function:
    """``values[b]`` is the tensor's element (float32, bool, or bytes) where ``source`` has the bits ``b``."""

    source: relax.Var
    values: np.ndarray
    steps: int = 0


class _Tabulator:
    def __init__(self, mod: tvm.IRModule, name: str):
        self.mod = mod
        self.build = BindingBuilder(mod, name)
        self.known: dict[relax.Var, _Function] = {}
        self.count = 0

    def run(self, function: relax.Function) -> tuple[tvm.IRModule, int]:
        for binding in bindings_of(function):
            if not isinstance(binding, relax.VarBinding) or not self._take(binding.var, binding.value):
                self.build.keep(binding)
        return self.build.finish(function), self.count

    def _take(self, var: relax.Var, value: Any) -> bool:
        """Note what function ``var`` is; whether it has been bound here."""
        if shape_of(var) is None:
            return False
        form = quantization_of(self.mod, value)
        if form is None:
            self._elementwise(var, value)
            return False
        if not form.single or not isinstance(form.data, relax.Var):
            return False
        if form.kind == "dequantize":
            self._dequantize(var, form)
            return False
        return self._quantize(var, form)

    def _dequantize(self, var: relax.Var, form: Quantization) -> None:
        dtype = dtype_of(form.data)
        if dtype not in ("int8", "uint8"):
            return
        function = self.known.get(form.data) or _Function(form.data, np.arange(256, dtype=np.uint8).view(dtype))
        zero, scale = np.float32(form.zero.reshape(-1)[0]), np.float32(form.scale.reshape(-1)[0])
        real = (function.values.astype(np.float32) - zero) * scale
        self.known[var] = _Function(function.source, real, function.steps)

    def _quantize(self, var: relax.Var, form: Quantization) -> bool:
        function, dtype = self.known.get(form.data), dtype_of(var)
        if function is None or dtype not in ("int8", "uint8"):
            return False
        values = _quantized(function.values, form, dtype)
        self.known[var] = _Function(function.source, values, function.steps + 1)
        self.count += 1
        if dtype == dtype_of(function.source) and np.array_equal(values.view(np.uint8), np.arange(256)):
            self.build.bind(var, function.source)
            return True
        table = constant(values.view(np.uint8).reshape(WORDS, BYTES).view("<i4").reshape(WORDS))
        kernel = call_kernel(self.build.builder, _lookup(dtype), (function.source, table), INJECTIVE, {LOOKUP: 1})
        self.build.bind(var, kernel)
        return True

    def _elementwise(self, var: relax.Var, value: Any) -> None:
        compute = _OPERATORS.get(op_name(value))
        if compute is None or dtype_of(var) not in ("float32", "bool"):
            return
        operands = [arg for arg in value.args if isinstance(arg.ty, relax.TensorType)]
        functions = [self.known[arg] for arg in operands if isinstance(arg, relax.Var) and arg in self.known]
        if not functions or any(not f.source.same_as(functions[0].source) for f in functions):
            return
        if not _same_shape(var, functions[0].source):
            return
        values = [self._operand(arg) if isinstance(arg.ty, relax.TensorType) else _number(arg) for arg in value.args]
        if any(item is None for item in values):
            return
        with np.errstate(all="ignore"):
            found = np.asarray(compute(value.attrs, *values), dtype_of(var))
        self.known[var] = _Function(functions[0].source, np.broadcast_to(found, (256,)))

    def _operand(self, arg: Any) -> np.ndarray | None:
        if isinstance(arg, relax.Var) and arg in self.known:
            return self.known[arg].values
        array = as_array(arg)
        return array.reshape(()) if array is not None and array.size == 1 and array.dtype == np.float32 else None


def _number(arg: Any) -> np.float32 | None:
    value = getattr(arg, "value", None)
    return None if value is None else np.float32(float(value))


def _same_shape(left: relax.Expr, right: relax.Expr) -> bool:
    a, b = dims_of(left), shape_of(right)
    return b is not None and len(a) == len(b) and all(map(tvm_ffi.structural_equal, a, b))


def _quantized(values: np.ndarray, form: Quantization, dtype: str) -> np.ndarray:
    """As the kernel has it (``frontend.quantization``): NaN becomes the least number."""
    limits, zero = np.iinfo(dtype), int(form.zero.reshape(-1)[0])
    with np.errstate(all="ignore"):
        rounded = np.rint(values.astype(np.float32) / np.float32(form.scale.reshape(-1)[0]))
    low, high = limits.min - zero, limits.max - zero
    rounded = np.where(np.isnan(rounded), low, np.clip(rounded, low, high))
    return (rounded.astype(np.int64) + zero).astype(dtype)


def _lookup(dtype: str) -> Callable[[te.Tensor, te.Tensor], te.Tensor]:
    def lookup(data: te.Tensor, table: te.Tensor) -> te.Tensor:
        def element(*index: tirx.Var) -> Any:
            bits = data(*index).astype("int32")
            if str(data.dtype) == "int8":
                bits = tirx.bitwise_and(bits, tirx.const(255, "int32"))
            word = table[bits >> tirx.const(2, "int32")]
            place = tirx.bitwise_and(bits, tirx.const(3, "int32")) << tirx.const(3, "int32")
            if dtype == "uint8":
                return tirx.bitwise_and(word >> place, tirx.const(255, "int32")).astype(dtype)
            return ((word << (tirx.const(24, "int32") - place)) >> tirx.const(24, "int32")).astype(dtype)

        return te.compute(data.shape, element, name="lookup")

    return lookup


def _leaky(attrs: Any, x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, x * np.float32(attrs.alpha))


def _where(_: Any, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(condition, x, y)


def _sigmoid(_: Any, x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def _erf(_: Any, x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(value) for value in x])


_OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "relax.add": lambda _, x, y: x + y,
    "relax.subtract": lambda _, x, y: x - y,
    "relax.multiply": lambda _, x, y: x * y,
    "relax.divide": lambda _, x, y: x / y,
    "relax.maximum": lambda _, x, y: np.maximum(x, y),
    "relax.minimum": lambda _, x, y: np.minimum(x, y),
    "relax.clip": lambda _, x, low, high: np.clip(x, low, high),
    "relax.nn.relu": lambda _, x: np.maximum(x, 0),
    "relax.nn.leakyrelu": _leaky,
    "relax.sigmoid": _sigmoid,
    "relax.nn.silu": lambda _, x: x * _sigmoid(_, x),
    "relax.tanh": lambda _, x: np.tanh(x),
    "relax.exp": lambda _, x: np.exp(x),
    "relax.log": lambda _, x: np.log(x),
    "relax.erf": _erf,
    "relax.sqrt": lambda _, x: np.sqrt(x),
    "relax.square": lambda _, x: x * x,
    "relax.abs": lambda _, x: np.abs(x),
    "relax.negative": lambda _, x: -x,
    "relax.less": lambda _, x, y: x < y,
    "relax.less_equal": lambda _, x, y: x <= y,
    "relax.greater": lambda _, x, y: x > y,
    "relax.greater_equal": lambda _, x, y: x >= y,
    "relax.where": _where,
}
"""In float32, as the kernels compute them; attributes come first."""


@each_function
def tabulate_bytes(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many quantizations became lookups, or nothing at all."""
    return _Tabulator(mod, name).run(mod[name])


def mark_lookups(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Tell fusion that lookups are elementwise: TVM takes what reads a table at computed places for opaque.

    Returns the module and how many functions were marked. (An elementwise pattern set before TVM's own annotation
    counts there as none.)
    """
    result, count = mod.clone(), 0
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc) and function.attrs and LOOKUP in function.attrs:
            result.update_func(gv, function.with_attr("op_pattern", ELEMENTWISE))
            count += 1
    return result, count
