"""Shape arithmetic on the side: operators over small integer tensors are evaluated element by element.

Exporters compute shapes with ordinary operators. When every input is a constant or ``SymbolicInts``, the node is
evaluated here on NumPy object arrays, so a dim stays an expression such as ``(width - 1) // 2 + 1``. Float tensors take
part as far as their elements are whole numbers or fractions that floats hold exactly (``symbolic_ratio``).
An evaluator may return None: then the node is converted like any other, on tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx

from . import symbolic_ratio as ratio
from .context import Context
from .node import Node
from .values import PrimExpr, SymbolicInts, Value, as_int, symbolic

MAX_ELEMENTS = 1024
"""Larger integer tensors are data, not shapes."""

Arrays = Sequence[np.ndarray]
Evaluator = Callable[[Context, Node, Arrays], "np.ndarray | list[np.ndarray] | None"]


def evaluate(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """The node's outputs when it is shape arithmetic, else None."""
    if node.domain != "" or not any(isinstance(value, SymbolicInts) for value in inputs):
        return None
    if not all(value is None or _is_small(value) for value in inputs):
        return None
    floats = any(value is not None and _dtype(value).startswith(("float", "bfloat")) for value in inputs)
    evaluator = (
        _FLOAT_EVALUATORS.get(node.op_type, _MOVERS.get(node.op_type)) if floats else _EVALUATORS.get(node.op_type)
    )
    if evaluator is None:
        return None
    arrays = [np.empty(0, object) if value is None else _objects(value) for value in inputs]
    if any(element is None for array in arrays for element in array.ravel()):
        return None
    result = evaluator(ctx, node, arrays)
    if result is None:
        return None
    results = [np.asarray(array, object) for array in (result if isinstance(result, list) else [result])]
    if any(element is None for array in results for element in array.ravel()):
        return None
    dtype = _result_dtype(node, inputs)
    return [_value(_simplified(ctx, array), dtype) for array in results]


def _value(elements: np.ndarray, dtype: str) -> Value:
    fixed = [isinstance(element, ratio.Ratio) and as_int(element.numerator) is not None for element in elements.ravel()]
    if any(fixed) and all(
        known or as_int(element) is not None for known, element in zip(fixed, elements.ravel(), strict=True)
    ):
        return np.vectorize(float, otypes=[dtype])(elements)
    return symbolic(elements, dtype)


def _dtype(value: Value) -> str:
    return value.dtype.name if isinstance(value, np.ndarray) else str(value.dtype)


def _is_small(value: Value) -> bool:
    return isinstance(value, np.ndarray | SymbolicInts) and int(np.prod(value.shape)) <= MAX_ELEMENTS


def _objects(value: Value) -> np.ndarray:
    """Elements as ints, expressions and fractions; None for a float that is none of them."""
    if isinstance(value, SymbolicInts):
        return value.elements
    assert isinstance(value, np.ndarray)
    if value.dtype.kind in "iub":
        return value.astype(object)
    out = np.empty(value.shape, object)
    for index, element in np.ndenumerate(value):
        out[index] = ratio.from_float(element)
    return out


def _simplified(ctx: Context, array: np.ndarray) -> np.ndarray:
    out = np.empty(np.shape(array), dtype=object)
    out[...] = array
    for index, element in np.ndenumerate(out):
        if isinstance(element, ratio.Ratio):
            out[index] = ratio.Ratio(ctx.simplify(element.numerator), element.denominator)
        elif not isinstance(element, bool):
            out[index] = ctx.simplify(element)
    return out


def _result_dtype(node: Node, inputs: Sequence[Value | None]) -> str:
    if node.op_type in _COMPARISONS or node.op_type in ("And", "Or", "Not"):
        return "bool"
    if node.op_type == "Cast":
        return ir.DataType(node.attr("to")).numpy().name
    if node.op_type == "Where":
        inputs = inputs[1:]
    return _dtype(next(value for value in inputs if value is not None))


# Elementwise arithmetic


def _elementwise(function: Callable[..., Any]) -> Evaluator:
    def run(_ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray:
        return np.frompyfunc(function, len(arrays), 1)(*arrays)

    return run


def _divide(ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray:
    """ONNX divides integers towards zero."""

    def divide(a: PrimExpr, b: PrimExpr) -> PrimExpr | None:
        divisor = as_int(b)
        if divisor is None or divisor == 0:
            return None
        if as_int(a) is not None:
            return abs(int(a)) // abs(divisor) * (1 if (a < 0) == (divisor < 0) else -1)
        return tirx.floordiv(a, divisor) if divisor > 0 and ctx.prove(a >= 0) else tirx.truncdiv(a, divisor)

    return np.frompyfunc(divide, 2, 1)(*arrays)


def _modulo(ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray | None:
    if any(as_int(b) is None or int(b) <= 0 for b in arrays[1].ravel()):
        return None
    return np.frompyfunc(lambda a, b: a % b if as_int(a) is not None else tirx.floormod(a, b), 2, 1)(*arrays)


def _minimum(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return min(a, b) if as_int(a) is not None and as_int(b) is not None else tirx.min(a, b)


def _maximum(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return max(a, b) if as_int(a) is not None and as_int(b) is not None else tirx.max(a, b)


def _variadic(function: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> Evaluator:
    def run(_ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray:
        return reduce(np.frompyfunc(function, 2, 1), arrays)

    return run


def _comparison(compare: Callable[[PrimExpr, PrimExpr], Any]) -> Evaluator:
    """A comparison is decided by proof; one that can go either way is left to the tensors."""

    def run(ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray | None:
        def decide(a: PrimExpr, b: PrimExpr) -> bool | None:
            if as_int(a) is not None and as_int(b) is not None:
                return bool(compare(int(a), int(b)))
            condition = tirx.EQ(_expr(a), _expr(b)) if compare is operator.eq else compare(_expr(a), _expr(b))
            if ctx.prove(condition):
                return True
            return False if ctx.prove(tirx.Not(condition)) else None

        decided = np.frompyfunc(decide, 2, 1)(*arrays)
        return None if any(element is None for element in np.ravel(decided)) else decided

    return run


def _expr(value: PrimExpr) -> PrimExpr:
    return tirx.const(int(value), "int64") if as_int(value) is not None else value


def _where(_ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray | None:
    condition, left, right = arrays
    if not all(isinstance(element, bool | np.bool_) for element in condition.ravel()):
        return None
    return np.where(condition.astype(bool), left, right)


def _cast(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray | None:
    """Dims are taken to fit into any integer of 32 bits or more, and into a float."""
    to = ir.DataType(node.attr("to")).numpy()
    known = to.kind in "if" and to.itemsize >= 4
    return arrays[0] if known else None


def _cast_float(ctx: Context, node: Node, arrays: Arrays) -> np.ndarray | None:
    to = ir.DataType(node.attr("to")).numpy()
    if to.kind == "f" and to.itemsize >= 4:
        return arrays[0]
    if to.kind != "i" or to.itemsize < 4:
        return None
    return np.frompyfunc(lambda a: ratio.truncate(a, lambda numerator: ctx.prove(numerator >= 0)), 1, 1)(arrays[0])


def _absolute(ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray:
    def absolute(a: PrimExpr) -> PrimExpr | None:
        if as_int(a) is not None:
            return abs(int(a))
        return a if ctx.prove(a >= 0) else None

    return np.frompyfunc(absolute, 1, 1)(*arrays)


def _round(_ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray | None:
    return None if any(isinstance(element, ratio.Ratio) for element in arrays[0].ravel()) else arrays[0]


def _same(_ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray:
    return arrays[0]


# Moving elements


def _gather(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray | None:
    data, indices = arrays
    if any(as_int(index) is None for index in indices.ravel()):
        return None
    return np.take(data, indices.astype(np.int64), axis=node.attr("axis", 0))


def _slice(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray | None:
    data = arrays[0]
    if len(arrays) > 1:
        rest = [[as_int(element) for element in array.ravel()] for array in arrays[1:]]
        if any(element is None for items in rest for element in items):
            return None
        known: list[list[int]] = [[int(e) for e in items if e is not None] for items in rest]
        starts, ends = known[0], known[1]
        axes = known[2] if len(known) > 2 and known[2] else list(range(len(starts)))
        steps = known[3] if len(known) > 3 and known[3] else [1] * len(starts)
    else:
        starts, ends = node.attr("starts"), node.attr("ends")
        axes, steps = node.attr("axes", list(range(len(starts)))), [1] * len(starts)
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # An end below -size with a negative step means "through element 0", which Python spells None.
        index[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(index)]


def _concat(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray:
    return np.concatenate(arrays, axis=node.attr("axis"))


def _axes(node: Node, arrays: Arrays) -> list[int]:
    if len(arrays) > 1 and arrays[1].size:
        return [int(axis) for axis in arrays[1].ravel()]
    return list(node.attr("axes", []))


def _unsqueeze(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray:
    return np.expand_dims(arrays[0], tuple(_axes(node, arrays)))


def _squeeze(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray:
    axes = _axes(node, arrays)
    return np.squeeze(arrays[0], tuple(axes) if axes else None)


def _reshape(_ctx: Context, _node: Node, arrays: Arrays) -> np.ndarray | None:
    shape = [as_int(dim) for dim in arrays[1].ravel()]
    return None if None in shape or 0 in shape else arrays[0].reshape(shape)  # type: ignore[arg-type]


def _reduce(function: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> Evaluator:
    def run(_ctx: Context, node: Node, arrays: Arrays) -> np.ndarray | None:
        if arrays[0].ndim != 1 or not arrays[0].size or _axes(node, arrays) not in ([], [0], [-1]):
            return None
        total = reduce(function, arrays[0])
        out = np.empty((1,) if node.attr("keepdims", 1) else (), dtype=object)
        out[...] = total
        return out

    return run


_COMPARISONS = {
    "Equal": operator.eq,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
}

_MOVERS: dict[str, Evaluator] = {
    "Identity": _same,
    "Where": _where,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
}

_EVALUATORS: dict[str, Evaluator] = {
    **_MOVERS,
    "Add": _elementwise(operator.add),
    "Sub": _elementwise(operator.sub),
    "Mul": _elementwise(operator.mul),
    "Div": _divide,
    "Mod": _modulo,
    "Neg": _elementwise(operator.neg),
    "Abs": _absolute,
    "Min": _variadic(_minimum),
    "Max": _variadic(_maximum),
    "Cast": _cast,
    "ReduceProd": _reduce(operator.mul),
    "ReduceSum": _reduce(operator.add),
    "ReduceMax": _reduce(_maximum),
    "ReduceMin": _reduce(_minimum),
    **{name: _comparison(compare) for name, compare in _COMPARISONS.items()},
}

_FLOAT_EVALUATORS: dict[str, Evaluator] = {
    "Add": _elementwise(ratio.add),
    "Sub": _elementwise(ratio.subtract),
    "Mul": _elementwise(ratio.multiply),
    "Div": _elementwise(ratio.divide),
    "Floor": _elementwise(ratio.floor),
    "Ceil": _elementwise(ratio.ceil),
    "Round": _round,
    "Cast": _cast_float,
}
