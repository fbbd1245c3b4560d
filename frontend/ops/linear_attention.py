"""LinearAttention: https://onnx.ai/onnx/operators/onnx__LinearAttention.html. A state per head instead of past keys.

Token by token, as the definition has it; batch elements and heads run in parallel. Computed in float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import PrimExpr, Value, as_int, tensor_dtype, tensor_shape
from .precision import cast_to, widened

RULES = ("linear", "gated", "delta", "gated_delta")

LANES = 16
"""Neighbouring elements that are handled at once."""


@dataclass(frozen=True)
class Heads:
    """Sizes of one layer: heads of queries and of keys, elements of a key and of a value."""

    query: int
    key: int
    key_size: int
    value_size: int


@converter("LinearAttention", since=27)
def linear_attention(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    query, key, value, past, decay, beta = [*inputs, None, None, None][:6]
    assert query is not None and key is not None and value is not None
    rule = node.attr("update_rule", "gated_delta")
    if rule not in RULES:
        raise ConversionError(f"update_rule {rule!r} is none of {', '.join(RULES)}")
    if (decay is None) == ("gated" in rule) or (beta is None) == ("delta" in rule):
        raise ConversionError(f"update_rule {rule!r} needs its inputs (decay for gated, beta for delta) and no others")
    heads = _heads(node, query, key, value)
    dims = tensor_shape(query)
    for other in (key, value, decay, beta):
        if other is not None:
            same_dim(ctx, [dims[0], tensor_shape(other)[0]], "the batches of inputs")
            same_dim(ctx, [dims[1], tensor_shape(other)[1]], "the lengths of inputs")
    state_shape = [dims[0], heads.key, heads.key_size, heads.value_size]
    state_dtype = tensor_dtype(query if past is None else past)
    if past is not None:
        for i, (a, b) in enumerate(zip(tensor_shape(past), state_shape, strict=True)):
            same_dim(ctx, [a, b], f"past_state along axis {i} and the heads")
    scale = node.attr("scale", 0.0) or heads.key_size**-0.5
    width = heads.query * heads.value_size
    if never_has_elements([*dims[:2], width]) or never_has_elements(state_shape):
        nothing = zeros(ctx, [*dims[:2], width], tensor_dtype(query))
        return [nothing, zeros(ctx, state_shape, state_dtype) if past is None else past][: node.output_count]
    tensors = [widened(ctx, item) for item in (query, key, value)]
    start = zeros(ctx, state_shape, "float32") if past is None else widened(ctx, past)
    gates = [] if decay is None else [ctx.emit(relax.op.exp(widened(ctx, decay)))]
    rates = [] if beta is None else [widened(ctx, beta)]
    plan = _Plan(heads, scale, bool(gates), bool(rates))
    plan.check(*gates, *rates)
    made = ctx.te(plan.kernel, *tensors, start, *gates, *rates, name="linear_attention")
    out, state = (ctx.emit(relax.TupleGetItem(made, i)) for i in range(2))
    return [cast_to(ctx, out, tensor_dtype(query)), cast_to(ctx, state, state_dtype)][: node.output_count]


def _heads(node: Node, query: Value, key: Value, value: Value) -> Heads:
    counts = [node.attr("q_num_heads"), node.attr("kv_num_heads")]
    widths = [tensor_shape(item)[-1] for item in (query, key, value)]
    if any(len(tensor_shape(item)) != 3 for item in (query, key, value)) or not known(*widths):
        raise ConversionError("query, key and value must have rank 3 and a last dim that is known")
    if min(counts) < 1 or counts[0] % counts[1]:
        raise ConversionError(f"{counts[0]} heads of queries can't share {counts[1]} heads of keys")
    heads = Heads(counts[0], counts[1], int(widths[0]) // counts[0], int(widths[2]) // counts[1])
    needed = [heads.query * heads.key_size, heads.key * heads.key_size, heads.key * heads.value_size]
    if [int(width) for width in widths] != needed:
        raise ConversionError(f"last dims {[int(width) for width in widths]} don't fit {counts} heads")
    return heads


@dataclass(frozen=True)
class _Plan:
    heads: Heads
    scale: float
    gated: bool
    corrected: bool

    def check(self, *gates: relax.Expr) -> None:
        """A gate is one per head, or one per element of a key; a rate is one per head, or one for all."""
        allowed = [(self.heads.key, self.heads.key * self.heads.key_size)] * self.gated
        allowed += [(self.heads.key, 1)] * self.corrected
        for tensor, widths in zip(gates, allowed, strict=True):
            if as_int(tensor_shape(tensor)[-1]) not in widths:
                raise ConversionError(
                    f"decay or beta has last dim {tensor_shape(tensor)[-1]}, one of {widths} is needed"
                )

    def kernel(self, query: te.Tensor, key: te.Tensor, value: te.Tensor, start: te.Tensor, *rest: te.Tensor) -> Any:
        """The output [B, T, heads * value_size], the state, and scratch memory."""
        batch, heads = prim(query.shape[0]), self.heads

        def body(ins: Any, outs: Any) -> tirx.Stmt:
            buffers = [T.buffer_proxy(buffer) for buffer in (*ins, *outs)]
            with IRBuilder() as builder, T.parallel(prim(0), batch * heads.key) as unit:
                b, h = T.bind(tirx.truncdiv(unit, prim(heads.key))), T.bind(tirx.truncmod(unit, prim(heads.key)))
                widths = [int(tensor.shape[-1]) for tensor in rest]
                _Unit(self, buffers, widths, b, h, T.bind(unit * heads.key_size * heads.value_size)).run(
                    prim(query.shape[1])
                )
            return builder.get()

        state = [batch, prim(heads.key), prim(heads.key_size), prim(heads.value_size)]
        shapes = [[batch, query.shape[1], prim(heads.query * heads.value_size)], state, [*state[:2], state[3]]]
        tensors = [query, key, value, start, *rest]
        return te.extern([prim_list(s) for s in shapes], tensors, body, dtype=["float32"] * 3, name="linear_attention")


@dataclass(frozen=True)
class _Unit:
    """One head of one batch element; ``state`` is where its state begins."""

    plan: _Plan
    buffers: list[Any]
    widths: list[int]
    b: PrimExpr
    h: PrimExpr
    state: PrimExpr

    def run(self, length: PrimExpr) -> None:
        heads = self.plan.heads
        past, present = self.buffers[3], self.buffers[-2]
        with T.serial(prim(0), prim(heads.key_size * heads.value_size)) as i:
            present[self.state + i] = past[self.state + i]
        with T.serial(prim(0), length) as t:
            self._token(T.bind(self.b * length + t))

    def _token(self, at: PrimExpr) -> None:
        heads, size = self.plan.heads, self.plan.heads.value_size
        query, key, value = self.buffers[:3]
        out, present, fresh = self.buffers[-3:]
        rest = self.buffers[4:-3]
        first = T.bind((self.b * heads.key + self.h) * size)
        keys = T.bind((at * heads.key + self.h) * heads.key_size)
        values = T.bind((at * heads.key + self.h) * size)

        def row(d: PrimExpr) -> PrimExpr:
            return T.bind(self.state + d * size)

        _each(size, lambda m: _store(fresh, first + m, value[values + m]))
        with T.serial(prim(0), prim(heads.key_size)) as d:
            start = row(d)
            if self.plan.gated:
                per_element = self.widths[0] == heads.key * heads.key_size and heads.key_size > 1
                gate = T.bind(rest[0][keys + d if per_element else at * heads.key + self.h])
                _each(size, lambda m: _store(present, start + m, present[start + m] * gate))
            if self.plan.corrected:
                factor = T.bind(key[keys + d])
                _each(size, lambda m: _store(fresh, first + m, fresh[first + m] - present[start + m] * factor))
        if self.plan.corrected:
            rate = T.bind(rest[-1][at * self.widths[-1] + (self.h if self.widths[-1] > 1 else 0)])
            _each(size, lambda m: _store(fresh, first + m, fresh[first + m] * rate))
        with T.serial(prim(0), prim(heads.key_size)) as d:
            start, weight = row(d), T.bind(key[keys + d])
            _each(size, lambda m: _store(present, start + m, present[start + m] + weight * fresh[first + m]))
        together = heads.query // heads.key
        with T.serial(prim(0), prim(together)) as g:
            asked = T.bind(at * heads.query + self.h * together + g)
            _each(size, lambda m: _store(out, asked * size + m, tirx.const(0, "float32")))
            with T.serial(prim(0), prim(heads.key_size)) as d:
                start = row(d)
                part = T.bind(query[asked * heads.key_size + d] * tirx.const(self.plan.scale, "float32"))
                _each(size, lambda m: _store(out, asked * size + m, out[asked * size + m] + part * present[start + m]))


def _store(buffer: Any, at: PrimExpr, value: PrimExpr) -> None:
    buffer[at] = value


def _each(size: int, body: Callable[[PrimExpr], None]) -> None:
    """``body`` for 0 to ``size``, in whole vectors as far as they go."""
    if size >= LANES:
        with T.serial(prim(0), prim(size // LANES)) as part, T.vectorized(prim(0), prim(LANES)) as lane:
            body(part * LANES + lane)
    with T.serial(prim(size // LANES * LANES), prim(size)) as rest:
        body(rest)
