"""The steps of recurrent layers as loops. What doesn't depend on the step before is a matmul outside of them.

Each batch element runs through time on its own, in parallel. The recurrent product goes row by row through tiles of the
transposed weight, so that its inner loop is over neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from .arith import prim
from .context import prim_list
from .recurrent_weights import LANES, tiles_of
from .values import PrimExpr

Activation = Callable[[PrimExpr], PrimExpr]


@dataclass(frozen=True)
class Layer:
    """One direction of one layer. ``gates`` is 4 (LSTM), 3 (GRU) or 1 (RNN)."""

    gates: int
    hidden: int
    backward: bool
    activations: Sequence[Activation]
    clip: float | None = None
    input_forget: bool = False
    linear_before_reset: bool = False


@dataclass(frozen=True)
class Step:
    """Flat buffers, and where the batch element's rows begin in them."""

    layer: Layer
    recurrent: Any
    bias: Any
    peephole: Any
    gates: Any
    hidden: Any
    cell: Any
    scratch: Any
    at_gates: PrimExpr
    at_state: PrimExpr

    def clipped(self, value: PrimExpr) -> PrimExpr:
        limit = self.layer.clip
        if limit is None:
            return value
        bound = tirx.const(limit, str(value.ty.dtype))
        return tirx.max(tirx.min(value, bound), tirx.const(0, str(value.ty.dtype)) - bound)

    def multiply(self, target: Any, base: PrimExpr, source: Any, first: int, count: int) -> None:
        """target[base + j] += source's row times the recurrent weight's columns ``first`` to ``first + count``."""
        self.accumulate(target, base, source, first, count)

    def weight(self, at: PrimExpr, column: PrimExpr) -> PrimExpr:
        """The element ``at`` this place of the packed weight, which belongs to ``column``."""
        return self.recurrent[at]

    def accumulate(self, target: Any, base: PrimExpr, source: Any, first: int, count: int) -> None:
        """The product, tile by tile of ``recurrent_weights.packed``: those of one width in a loop, then the rest."""
        widths = tiles_of(count)
        full = widths.count(widths[0])
        with T.serial(prim(0), prim(full)) as tile:
            self._tile(target, base, source, first, T.bind(tile * widths[0]), widths[0])
        for rest in widths[full:]:
            self._tile(target, base, source, first, prim(full * widths[0]), rest)

    def _tile(self, target: Any, base: PrimExpr, source: Any, first: int, start: PrimExpr, width: int) -> None:
        """Columns ``start`` to ``start + width`` behind ``first``, whose sums are kept in registers."""
        size = self.layer.hidden
        sums = T.buffer_proxy(T.alloc_buffer((width,), str(target.dtype), scope="local"))

        def begin(j: PrimExpr) -> None:
            sums[j] = target[base + start + j]

        def end(j: PrimExpr) -> None:
            target[base + start + j] = sums[j]

        each(width, begin, unrolled=True)
        with T.serial(prim(0), prim(size)) as k:
            factor = T.bind(source[self.at_state + k])
            at = T.bind((start + first) * size + k * width)

            def add(j: PrimExpr) -> None:
                sums[j] = sums[j] + factor * self.weight(at + j, start + first + j)

            each(width, add, unrolled=True)
        each(width, end, unrolled=True)


def each(count: int, body: Callable[[PrimExpr], None], unrolled: bool = False) -> None:
    """``body`` for each index below ``count``, in vectors as far as they go."""
    loop = T.unroll if unrolled else T.serial
    with loop(prim(0), prim(count // LANES)) as part, T.vectorized(prim(0), prim(LANES)) as lane:
        body(part * LANES + lane)
    with loop(prim(count // LANES * LANES), prim(count)) as j:
        body(j)


def lstm_step(step: Step) -> None:
    """Gates in ONNX's order: input, output, forget, cell; peepholes input, output, forget."""
    size = step.layer.hidden
    sigma, squash, last = step.layer.activations
    step.multiply(step.gates, step.at_gates, step.hidden, 0, 4 * size)

    def update(j: PrimExpr) -> None:
        cell = T.bind(step.cell[step.at_state + j])
        raw = [step.gates[step.at_gates + gate * size + j] for gate in range(4)]
        peep = [step.peephole[gate * size + j] for gate in range(3)]
        enter = T.bind(sigma(step.clipped(raw[0] + peep[0] * cell)))
        keep = sigma(step.clipped(raw[2] + peep[2] * cell))
        one = tirx.const(1, str(cell.ty.dtype))
        kept = T.bind(one - enter if step.layer.input_forget else keep)
        fresh = T.bind(squash(step.clipped(raw[3])))
        now = T.bind(kept * cell + enter * fresh)
        leave = T.bind(sigma(step.clipped(raw[1] + peep[1] * now)))
        step.cell[step.at_state + j] = now  # not clipped for its activation: ONNX Runtime leaves it so
        step.hidden[step.at_state + j] = leave * last(now)

    each(size, update)


def gru_step(step: Step) -> None:
    """Gates in ONNX's order: update, reset, hidden. ``bias`` is the recurrent one of the hidden gate."""
    size = step.layer.hidden
    sigma, squash = step.layer.activations
    step.multiply(step.gates, step.at_gates, step.hidden, 0, 2 * size)
    before = step.layer.linear_before_reset

    def forget(j: PrimExpr) -> None:
        reset = T.bind(sigma(step.clipped(step.gates[step.at_gates + size + j])))
        step.gates[step.at_gates + size + j] = reset
        old = step.hidden[step.at_state + j]
        step.scratch[step.at_state + j] = step.bias[j] if before else reset * old

    each(size, forget)
    if before:
        step.multiply(step.scratch, step.at_state, step.hidden, 2 * size, size)
    else:
        step.multiply(step.gates, step.at_gates + 2 * size, step.scratch, 2 * size, size)

    def renew(j: PrimExpr) -> None:
        raw = step.gates[step.at_gates + 2 * size + j]
        reset = step.gates[step.at_gates + size + j]
        summed = raw + reset * step.scratch[step.at_state + j] if before else raw + step.bias[j]
        fresh = T.bind(squash(step.clipped(summed)))
        update = T.bind(sigma(step.clipped(step.gates[step.at_gates + j])))
        one = tirx.const(1, str(fresh.ty.dtype))
        step.hidden[step.at_state + j] = (one - update) * fresh + update * step.hidden[step.at_state + j]

    each(size, renew)


def rnn_step(step: Step) -> None:
    size = step.layer.hidden
    (squash,) = step.layer.activations
    step.multiply(step.gates, step.at_gates, step.hidden, 0, size)

    def update(j: PrimExpr) -> None:
        step.hidden[step.at_state + j] = squash(step.clipped(step.gates[step.at_gates + j]))

    each(size, update)


_STEPS: dict[int, Callable[[Step], None]] = {4: lstm_step, 3: gru_step, 1: rnn_step}


def run_layer(
    layer: Layer,
    projected: te.Tensor,
    recurrent: te.Tensor,
    bias: te.Tensor,
    peephole: te.Tensor,
    hidden: te.Tensor,
    cell: te.Tensor,
    lengths: te.Tensor,
) -> list[te.Tensor]:
    """All steps of a layer.

    ``projected`` [time, batch, gates * hidden] holds the inputs' part of the gates, ``recurrent`` the weight that
    ``recurrent_weights.packed`` gives, ``lengths`` [batch] (int64) how far each element of the batch goes. Returns the
    outputs [time, batch, hidden], the last hidden and cell states [batch, hidden], and two scratch tensors.
    """
    time, batch, width = (prim(dim) for dim in projected.shape)
    size = prim(layer.hidden)

    def copy(target: Any, at: PrimExpr, source: Any, origin: PrimExpr, count: int) -> None:
        def one(j: PrimExpr) -> None:
            target[at + j] = source[origin + j]

        each(count, one)

    def zero(target: Any, at: PrimExpr) -> None:
        target[at] = tirx.const(0, str(projected.dtype))

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        inputs, weight, offset, peep, first_h, first_c, spans = (T.buffer_proxy(buffer) for buffer in ins)
        out, last_h, last_c, gates, scratch = (T.buffer_proxy(buffer) for buffer in outs)
        with IRBuilder() as builder, T.parallel(prim(0), batch) as b:
            at_gates, at_state = T.bind(b * width), T.bind(b * size)
            copy(last_h, at_state, first_h, at_state, layer.hidden)
            copy(last_c, at_state, first_c, at_state, layer.hidden)
            span = T.bind(tirx.max(tirx.min(spans[b], time), prim(0)))
            with T.serial(prim(0), time) as past, T.If(past >= span), T.Then():
                rest = T.bind((past * batch + b) * size)
                each(layer.hidden, lambda j: zero(out, rest + j))
            with T.serial(prim(0), span) as s:
                now = T.bind((span - 1 - s if layer.backward else s) * batch + b)
                copy(gates, at_gates, inputs, T.bind(now * width), layer.gates * layer.hidden)
                _STEPS[layer.gates](
                    Step(layer, weight, offset, peep, gates, last_h, last_c, scratch, at_gates, at_state)
                )
                copy(out, T.bind(now * size), last_h, at_state, layer.hidden)
        return builder.get()

    state = [batch, size]
    shapes = [prim_list([time, batch, size]), state, state, [batch, width], state]
    tensors = [projected, recurrent, bias, peephole, hidden, cell, lengths]
    return te.extern(shapes, tensors, body, dtype=[str(projected.dtype)] * 5, name=f"recurrence_{layer.gates}")
