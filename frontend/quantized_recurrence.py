"""The steps of an LSTM with 8-bit weights as a loop: com.microsoft.DynamicQuantizeLSTM.

Before each step the hidden state of the whole batch is rounded to 8 bits over its own range, as ONNX Runtime does on
one thread. The sums are those of integers: float32 holds them exactly up to 2**24, beyond to its last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from .arith import prim
from .context import prim_list
from .recurrence import Layer, Step, each, lstm_step
from .values import PrimExpr

LOW, HIGH, SCALE, ZERO = range(4)
"""Places in the buffer that holds the range of the hidden state."""


@dataclass(frozen=True)
class QuantizedStep(Step):
    """``scratch`` holds the rounded hidden state less its zero point, ``sums`` a row of products, ``zero`` the weight's
    zero points or None, ``factor`` the scale of the hidden state."""

    scale: Any = None
    zero: Any = None
    sums: Any = None
    factor: Any = None

    def multiply(self, target: Any, base: PrimExpr, source: Any, first: int, count: int) -> None:
        """As of floats, over the rounded state instead of ``source``."""
        each(count, lambda j: _put(self.sums, j, tirx.const(0, "float32")))
        self.accumulate(self.sums, prim(0), self.scratch, first, count)

        def scaled(j: PrimExpr) -> None:
            target[base + j] = target[base + j] + self.sums[j] * (self.factor * self.scale[first + j])

        each(count, scaled)

    def weight(self, at: PrimExpr, column: PrimExpr) -> PrimExpr:
        value = self.recurrent[at].astype("float32")
        return value if self.zero is None else value - self.zero[column]


def run_quantized_layer(
    layer: Layer,
    projected: te.Tensor,
    recurrent: te.Tensor,
    scale: te.Tensor,
    zero: te.Tensor | None,
    peephole: te.Tensor,
    hidden: te.Tensor,
    cell: te.Tensor,
    lengths: te.Tensor,
) -> list[te.Tensor]:
    """All steps of a layer, as ``recurrence.run_layer``, with a ``recurrent`` weight of bytes, packed likewise.

    ``scale`` and ``zero`` [4 * hidden] (float32) belong to its columns; without ``zero`` all are 0.
    """
    time, batch, width = (prim(dim) for dim in projected.shape)
    size, columns = prim(layer.hidden), layer.gates * layer.hidden

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        buffers = [T.buffer_proxy(buffer) for buffer in ins]
        inputs, weight, by = buffers[:3]
        offset = buffers[3] if zero is not None else None
        peep, first_h, first_c, spans = buffers[-4:]
        out, last_h, last_c, gates, rounded, sums, span_of = (T.buffer_proxy(buffer) for buffer in outs)
        with IRBuilder() as builder, T.serial(prim(0), prim(1)):  # a body is one statement
            with T.serial(prim(0), batch) as b:
                _begin(layer, b, time, batch, spans, ((last_h, first_h), (last_c, first_c)), out)
            with T.serial(prim(0), time) as s:
                _round(last_h, rounded, span_of, batch * size)
                with T.serial(prim(0), batch) as b:
                    span = T.bind(tirx.max(tirx.min(spans[b], time), prim(0)))
                    with T.If(s < span), T.Then():
                        now = T.bind((span - 1 - s if layer.backward else s) * batch + b)
                        at_gates, at_state = T.bind(b * width), T.bind(b * size)
                        _copy(gates, at_gates, inputs, T.bind(now * width), columns)
                        lstm_step(QuantizedStep(layer, weight, None, peep, gates, last_h, last_c, rounded, at_gates,
                                                at_state, by, offset, sums, T.bind(span_of[SCALE])))  # fmt: skip
                        _copy(out, T.bind(now * size), last_h, at_state, layer.hidden)
        return builder.get()

    state = [batch, size]
    shapes = [prim_list([time, batch, size]), state, state, [batch, width], state, [prim(columns)], [prim(4)]]
    offsets = [] if zero is None else [zero]
    tensors = [projected, recurrent, scale, *offsets, peephole, hidden, cell, lengths]
    return te.extern(shapes, tensors, body, dtype=["float32"] * 7, name="quantized_recurrence")


def _put(target: Any, at: PrimExpr, value: PrimExpr) -> None:
    target[at] = value


def _copy(target: Any, at: PrimExpr, source: Any, origin: PrimExpr, count: int) -> None:
    each(count, lambda j: _put(target, at + j, source[origin + j]))


def _begin(layer: Layer, b: PrimExpr, time: PrimExpr, batch: PrimExpr, spans: Any, states: Any, out: Any) -> None:
    """The initial states of a batch element, and zeros behind its end."""
    size = prim(layer.hidden)
    for last, first in states:
        _copy(last, T.bind(b * size), first, T.bind(b * size), layer.hidden)
    with T.serial(prim(0), time) as past, T.If(past >= spans[b]), T.Then():
        rest = T.bind((past * batch + b) * size)
        each(layer.hidden, lambda j: _put(out, rest + j, tirx.const(0, "float32")))


def _round(source: Any, target: Any, span_of: Any, count: PrimExpr) -> None:
    """DynamicQuantizeLinear of all elements, less the zero point; a range of zeros alone has the scale 1."""
    nothing, one, most = (tirx.const(value, "float32") for value in (0, 1, 255))
    for place in (LOW, HIGH):
        span_of[place] = nothing
    with T.serial(prim(0), count) as i:
        span_of[LOW] = tirx.min(span_of[LOW], source[i])
        span_of[HIGH] = tirx.max(span_of[HIGH], source[i])
    spread = T.bind(span_of[HIGH] - span_of[LOW])
    span_of[SCALE] = tirx.Select(spread > nothing, spread / most, one)
    span_of[ZERO] = tirx.nearbyint(tirx.max(tirx.min(nothing - span_of[LOW] / span_of[SCALE], most), nothing))
    scale, zero = T.bind(span_of[SCALE]), T.bind(span_of[ZERO])
    with T.serial(prim(0), count) as i:
        place = tirx.nearbyint(source[i] / scale)
        target[i] = tirx.max(tirx.min(place, most - zero), nothing - zero)
