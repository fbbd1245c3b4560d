"""LSTM, GRU and RNN: https://onnx.ai/onnx/operators/onnx__LSTM.html and siblings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context, prim_list
from ..node import Node
from ..quantized_recurrence import run_quantized_layer
from ..recurrence import Activation, Layer, run_layer
from ..recurrent_weights import packed
from ..registry import converter
from ..shapes import never_has_elements
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .slice import Cut, take_cuts

_DEFAULTS = {4: ["Sigmoid", "Tanh", "Tanh"], 3: ["Sigmoid", "Tanh"], 1: ["Tanh"]}
_ALPHA = {"LeakyRelu": 0.01, "Affine": 1.0, "ThresholdedRelu": 1.0, "ScaledTanh": 1.0, "HardSigmoid": 0.2, "Elu": 1.0}
_BETA = {"ScaledTanh": 1.0, "HardSigmoid": 0.5}


@dataclass(frozen=True)
class Bytes:
    """The weights of an LSTM in 8 bits: ``project`` gives the inputs' part of a direction's gates, ``recurrent``
    [directions, hidden, 4 * hidden] has ``scale`` and ``zero`` [directions, 4 * hidden] (float32) for its columns."""

    project: Callable[[int], relax.Expr]
    recurrent: np.ndarray
    scale: np.ndarray
    zero: np.ndarray


@converter("LSTM")
def lstm(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    return _recurrent(ctx, node, [*inputs, *[None] * 8][:8], 4)


def quantized_lstm(ctx: Context, node: Node, inputs: Sequence[Value | None], weights: Bytes) -> list[Value]:
    """``inputs`` as LSTM's; only the shapes of its weights are looked at."""
    return _recurrent(ctx, node, [*inputs, *[None] * 8][:8], 4, weights)


@converter("GRU")
def gru(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    return _recurrent(ctx, node, [*inputs, *[None] * 8][:8], 3)


@converter("RNN")
def rnn(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    return _recurrent(ctx, node, [*inputs, *[None] * 8][:8], 1)


@dataclass(frozen=True)
class Given:
    """The inputs in ONNX's order, with time first."""

    x: Value
    weight: Value
    recurrent: Value
    bias: Value | None
    lengths: Value | None
    hidden: Value | None
    cell: Value | None
    peephole: Value | None


def _recurrent(
    ctx: Context, node: Node, inputs: Sequence[Value | None], gates: int, weights: Bytes | None = None
) -> list[Value]:
    batch_first = bool(node.attr("layout", 0))
    if batch_first:
        inputs = [_swapped(ctx, value) if i in (0, 5, 6) else value for i, value in enumerate(inputs)]
    given = Given(*inputs)
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[
        node.attr("direction", "forward")
    ]
    shape = tensor_shape(given.recurrent)
    if not known(*shape) or [int(shape[0]), int(shape[1])] != [len(directions), gates * int(shape[2])]:
        raise ConversionError(f"the recurrent weight has shape {list(shape)} for {len(directions)} direction(s)")
    if never_has_elements(tensor_shape(given.x)):
        raise ConversionError("sequences without elements are not supported")
    layers = [_layer(node, gates, int(shape[2]), backward, i) for i, backward in enumerate(directions)]
    results = [_run(ctx, given, layer, direction, weights) for direction, layer in enumerate(layers)]
    whole, hidden, cell = (_joined(ctx, [result[i] for result in results], 1 if i == 0 else 0) for i in range(3))
    if batch_first:  # [time, directions, batch, hidden] to [batch, time, directions, hidden]
        whole = ctx.emit(relax.op.permute_dims(whole, [2, 0, 1, 3]))
        hidden, cell = _swapped(ctx, hidden), _swapped(ctx, cell)
    return [whole, hidden, cell][: 3 if gates == 4 else 2]


def _swapped(ctx: Context, value: Value | None) -> Value | None:
    """The first two axes exchanged."""
    return None if value is None else ctx.emit(relax.op.permute_dims(ctx.tensor(value), [1, 0, 2]))


def _transposed(ctx: Context, matrix: Value) -> Value:
    if isinstance(matrix, np.ndarray):
        return np.ascontiguousarray(matrix.T)
    return ctx.emit(relax.op.permute_dims(ctx.tensor(matrix)))


def _joined(ctx: Context, parts: list[relax.Expr], axis: int) -> relax.Expr:
    shape = list(tensor_shape(parts[0]))
    expanded = [ctx.tensor(ctx.reshape(part, [*shape[:axis], 1, *shape[axis:]])) for part in parts]
    return expanded[0] if len(parts) == 1 else ctx.emit(relax.op.concat(expanded, axis))


def _layer(node: Node, gates: int, hidden: int, backward: bool, direction: int) -> Layer:
    default = _DEFAULTS[gates]
    names = node.attr("activations") or default * 2
    first = direction * len(default)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    alphas, betas = list(node.attr("activation_alpha", [])), list(node.attr("activation_beta", []))
    chosen: list[Activation] = []
    for i, name in enumerate(names):
        # Numbers are given for those functions alone that take them, in order.
        alpha = alphas.pop(0) if name in _ALPHA and alphas else _ALPHA.get(name, 0.0)
        beta = betas.pop(0) if name in ("Affine", *_BETA) and betas else _BETA.get(name, 0.0)
        if first <= i < first + len(default):
            chosen.append(_activation(name, alpha, beta))
    if node.attr("hidden_size", hidden) != hidden:
        raise ConversionError(f"hidden_size is {node.attr('hidden_size')}, the weights have {hidden}")
    return Layer(
        gates,
        hidden,
        backward,
        chosen,
        node.attr("clip"),
        bool(node.attr("input_forget", 0)),
        bool(node.attr("linear_before_reset", 0)),
    )


def _activation(name: str, alpha: float, beta: float) -> Activation:
    def c(value: float, like: PrimExpr) -> PrimExpr:
        return tirx.const(value, str(like.ty.dtype))

    functions: dict[str, Callable[[PrimExpr], PrimExpr]] = {
        "Sigmoid": tirx.sigmoid,
        "Tanh": tirx.tanh,
        "Relu": lambda x: tirx.max(x, c(0, x)),
        "Affine": lambda x: c(alpha, x) * x + c(beta, x),
        "LeakyRelu": lambda x: tirx.Select(x < c(0, x), c(alpha, x) * x, x),
        "ThresholdedRelu": lambda x: tirx.Select(x > c(alpha, x), x, c(0, x)),
        "ScaledTanh": lambda x: c(alpha, x) * tirx.tanh(c(beta, x) * x),
        "HardSigmoid": lambda x: tirx.max(tirx.min(c(alpha, x) * x + c(beta, x), c(1, x)), c(0, x)),
        "Elu": lambda x: tirx.Select(x < c(0, x), c(alpha, x) * (tirx.exp(x) - c(1, x)), x),
        "Softsign": lambda x: x / (c(1, x) + tirx.abs(x)),
        "Softplus": lambda x: tirx.log(c(1, x) + tirx.exp(x)),
    }
    found = {key.lower(): function for key, function in functions.items()}.get(name.lower())
    if found is None:
        raise ConversionError(f"unknown activation {name!r}")
    return found


def _run(ctx: Context, given: Given, layer: Layer, direction: int, weights: Bytes | None) -> list[relax.Expr]:
    """One direction: the outputs [time, batch, hidden] and the last states [batch, hidden]."""
    time, batch, _ = tensor_shape(given.x)
    size, width, dtype = layer.hidden, layer.gates * layer.hidden, tensor_dtype(given.x)

    def part(value: Value) -> Value:
        if isinstance(value, np.ndarray):
            return value[direction]
        return ctx.reshape(take_cuts(ctx, value, {0: Cut(direction, 1, 1)}), tensor_shape(value)[1:])

    if weights is None:
        weight, recurrent = (_transposed(ctx, part(matrix)) for matrix in (given.weight, given.recurrent))
        # All steps are rows of one product: as a batch of them each would read the weight anew.
        rows = ctx.reshape(given.x, [time * batch, tensor_shape(given.x)[2]])
        projected = ctx.emit(relax.op.matmul(ctx.tensor(rows), ctx.tensor(weight)))
    else:
        projected = weights.project(direction)
    bias: Value = np.zeros(size, dtype)
    if given.bias is not None:
        projected, bias = _with_bias(ctx, projected, part(given.bias), layer, dtype)
    projected = ctx.tensor(ctx.reshape(projected, [time, batch, width]))
    states = [_state(ctx, value, part, batch, size, dtype) for value in (given.hidden, given.cell)]
    peephole: Value = np.zeros(3 * size, dtype) if given.peephole is None else part(given.peephole)
    lengths = _lengths(ctx, given.lengths, time, batch)
    if weights is not None:
        return _run_bytes(ctx, layer, weights, direction, [projected, peephole, *states, lengths])
    arguments = [projected, packed(ctx, recurrent, layer.gates, size), bias, peephole, *states, lengths]

    def recurrence(*tensors: te.Tensor) -> list[te.Tensor]:
        return run_layer(layer, *tensors)

    result = ctx.te(recurrence, *(ctx.tensor(value) for value in arguments), name=f"recurrence_{width}")
    return [ctx.emit(relax.TupleGetItem(result, i)) for i in range(3)]


def _run_bytes(
    ctx: Context, layer: Layer, weights: Bytes, direction: int, arguments: Sequence[Value]
) -> list[relax.Expr]:
    matrix = packed(ctx, weights.recurrent[direction], layer.gates, layer.hidden)
    parts: list[Value] = [matrix, *(np.ascontiguousarray(array[direction]) for array in (weights.scale, weights.zero))]
    bytes_ = parts if np.any(weights.zero[direction]) else parts[:2]
    count = len(bytes_)

    def recurrence(*tensors: te.Tensor) -> list[te.Tensor]:
        zero = tensors[3] if count == 3 else None
        return run_quantized_layer(layer, tensors[0], tensors[1], tensors[2], zero, *tensors[1 + count :])

    given = [ctx.tensor(value) for value in (arguments[0], *bytes_, *arguments[1:])]
    result = ctx.te(recurrence, *given, name="quantized_recurrence")
    return [ctx.emit(relax.TupleGetItem(result, i)) for i in range(3)]


def _with_bias(ctx: Context, projected: relax.Expr, bias: Value, layer: Layer, dtype: str) -> tuple[relax.Expr, Value]:
    """Both biases join the projection, but for the recurrent one of GRU's hidden gate: it may be reset."""
    size, width = layer.hidden, layer.gates * layer.hidden
    halves = [take_cuts(ctx, bias, {0: Cut(i * width, width, 1)}) for i in range(2)]
    projected = ctx.emit(relax.op.add(projected, ctx.tensor(halves[0])))
    if layer.gates != 3:
        return ctx.emit(relax.op.add(projected, ctx.tensor(halves[1]))), np.zeros(size, dtype)
    early = ctx.tensor(take_cuts(ctx, halves[1], {0: Cut(0, 2 * size, 1)}))
    joined = ctx.emit(relax.op.concat([early, ctx.tensor(np.zeros(size, dtype))], 0))
    return ctx.emit(relax.op.add(projected, joined)), take_cuts(ctx, halves[1], {0: Cut(2 * size, size, 1)})


def _state(
    ctx: Context, value: Value | None, part: Callable[[Value], Value], batch: PrimExpr, size: int, dtype: str
) -> Value:
    if value is None:
        return _filled(ctx, [batch, size], tirx.const(0, dtype))
    initial = part(value)
    if not ctx.equal(tensor_shape(initial)[0], batch):
        ctx.check(prim(tensor_shape(initial)[0]) == prim(batch))
    return initial


def _lengths(ctx: Context, value: Value | None, time: PrimExpr, batch: PrimExpr) -> Value:
    if value is None:

        def whole(time: PrimExpr, batch: PrimExpr) -> te.Tensor:
            return te.compute((prim(batch),), lambda _: prim(time), name="lengths")

        return ctx.te(whole, time, batch, name="lengths")
    if not ctx.equal(tensor_shape(value)[0], batch):
        ctx.check(prim(tensor_shape(value)[0]) == prim(batch))
    return ctx.emit(relax.op.astype(ctx.tensor(value), "int64"))


def _filled(ctx: Context, dims: list[PrimExpr], value: PrimExpr) -> relax.Expr:
    return ctx.te(lambda shape: te.compute(prim_list(shape), lambda *_: value, name="filled"), dims, name="filled")
