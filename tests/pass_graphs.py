"""Small Relax graphs for tests of passes: written operator by operator, listed, and evaluated without our passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax, tirx

from onnxkiln.frontend import import_model
from onnxkiln.passes.bindings import bindings_of
from onnxkiln.passes.constants import is_constant, op_name

RNG = np.random.default_rng(7)


def data(*shape: int, dtype: str = "float32") -> np.ndarray:
    """Values around 0, all different."""
    return RNG.normal(size=shape).astype(dtype)


def const(array: Any) -> relax.Expr:
    array = np.asarray(array)
    return relax.const(array, array.dtype.name)


def graph(function: Callable[..., Any], *shapes: Sequence[Any], dtype: str = "float32") -> tvm.IRModule:
    """``main`` as the frontend gives it: no dataflow block, a tuple of outputs. A str in a shape names a dim.

    ``function`` takes the parameters and gives an expression, or a list of them.
    """
    dims: dict[str, tirx.Var] = {}

    def dim(value: Any) -> Any:
        return dims.setdefault(value, tirx.Var(value, "int64")) if isinstance(value, str) else value

    params = [relax.Var(f"p{i}", relax.TensorType([dim(d) for d in shape], dtype)) for i, shape in enumerate(shapes)]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        result = function(*params)
        results = [builder.emit(value) for value in (result if isinstance(result, list) else [result])]
        builder.emit_func_output(builder.emit(relax.Tuple(results)))
    return builder.get()


def imported(text: str, folder: Path) -> tvm.IRModule:
    """What the frontend makes of a model in ONNX's text form."""
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return import_model(folder / "model.onnx").module


def emit(expr: relax.Expr) -> relax.Var:
    """Inside ``graph``: a variable for a value that several operators read."""
    return relax.BlockBuilder.current().emit(expr)


def operators(mod: tvm.IRModule, name: str = "main") -> list[str]:
    """The calls of a function in order, without dialect: "add", "nn.conv2d", "call_tir NAME", "If"."""
    return [shown for binding in bindings_of(mod[name]) if (shown := _shown(binding.value))]


def _shown(value: relax.Expr) -> str:
    if isinstance(value, relax.If):
        return "If"
    called = op_name(value).removeprefix("relax.")
    return f"call_tir {value.args[0].name_hint}" if called == "call_tir" else called


def constants_of(mod: tvm.IRModule, name: str = "main") -> list[np.ndarray]:
    """Constants in the order in which they are bound or read."""
    found: list[np.ndarray] = []

    def visit(expr: relax.Expr) -> None:
        if is_constant(expr):
            found.append(expr.value.numpy())
        for child in expr.fields if isinstance(expr, relax.Tuple) else getattr(expr, "args", ()):
            visit(child)

    for binding in bindings_of(mod[name]):
        visit(binding.value)
    return found


class Plain:
    """``main`` by TVM's own legalisation and naive loops: what a pass must not change."""

    def __init__(self, mod: tvm.IRModule):
        self._machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        results = self._machine["main"](*[tvm.runtime.tensor(np.asarray(array, order="C")) for array in arrays])
        return [result.numpy() for result in results]


def assert_same(before: tvm.IRModule, after: tvm.IRModule, *feeds: Sequence[np.ndarray], rtol: float = 1e-4) -> None:
    """Both modules are sound and give the same outputs for each of ``feeds``."""
    assert relax.analysis.well_formed(after) in (None, True)
    one, other = Plain(before), Plain(after)
    for arrays in feeds:
        for want, got in zip(one(*arrays), other(*arrays), strict=True):
            assert got.shape == want.shape and got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)
