"""Scaled dot-product attention from the pieces that exporters write, as one kernel: see ``schedules.attention``.

The pieces are ``softmax(f(Q x K^T)) x V``, where f is any chain of elementwise operators: a scale, a mask by Add or
Where, a cap. Transposes and repetitions of heads around the products become the way in which the kernel reads and
writes. What ONNX's and ONNX Runtime's attention operators are converted to has the same form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from ..schedules import attention as kernel
from ..schedules.attention import Attention, Axis, Operand
from ..schedules.blocks import TEMPLATE_KEY
from ..schedules.gpu import attention as gpu
from ..targets import Target
from .bindings import BindingBuilder, bindings_of, count_uses, relax_functions
from .call_kernel import call_kernel
from .constants import as_array, dtype_of, op_name, shape_of
from .trace_heads import same_dims, trace

OPAQUE = 8
"""TVM's ``OpPatternKind``: nothing is fused with the kernel."""

WIDEST = 512
"""Elements of a head's key or value: past that, a block's queries and sums no longer stay near."""

Expr = Any

_ELEMENTWISE: dict[str, Callable[..., Expr]] = {
    "relax.add": lambda a, b: a + b,
    "relax.subtract": lambda a, b: a - b,
    "relax.multiply": lambda a, b: a * b,
    "relax.divide": lambda a, b: _divided(a, b),
    "relax.negative": lambda a: -a,
    "relax.tanh": tirx.tanh,
    "relax.where": tirx.Select,
    "relax.isnan": tirx.isnan,
}


def fuse_attention(mod: tvm.IRModule, target: Target) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many attentions became one kernel."""
    total = 0
    for name in relax_functions(mod):
        mod, count = _fuse(mod, name, target)
        total += count
    return mod, total


def _fuse(mod: tvm.IRModule, name: str, target: Target) -> tuple[tvm.IRModule, int]:
    function = mod[name]
    graph = _Graph.of(function)
    found: dict[relax.Var, _Match] = {}
    widest = gpu.WIDEST if target.is_gpu else WIDEST
    for binding in bindings_of(function):
        match = _match(graph, binding.var, widest) if isinstance(binding, relax.VarBinding) else None
        if match is not None:
            found[match.result] = match
    if not found:
        return mod, 0
    build = BindingBuilder(mod, name)
    for binding in bindings_of(function):
        match = found.get(binding.var)
        if match is None:
            build.keep(binding)
        else:
            build.bindings.append(relax.VarBinding(binding.var, match.call(build.builder, target)))
    return build.finish(function), len(found)


@dataclass(frozen=True)
class _Graph:
    values: dict[relax.Var, relax.Expr]
    uses: Counter[relax.Var]
    readers: dict[relax.Var, list[relax.Var]]

    @staticmethod
    def of(function: relax.Function) -> _Graph:
        values: dict[relax.Var, relax.Expr] = {}
        readers: dict[relax.Var, list[relax.Var]] = {}
        for binding in bindings_of(function):
            if isinstance(binding, relax.VarBinding):
                values[binding.var] = binding.value
                for arg in getattr(binding.value, "args", ()):
                    if isinstance(arg, relax.Var):
                        readers.setdefault(arg, []).append(binding.var)
        return _Graph(values, count_uses(function), readers)


@dataclass
class _Chain:
    """Elementwise operators on ``root``; ``others`` are the further tensors that they read."""

    graph: _Graph
    shape: list[Any]
    is_root: Callable[[relax.Expr], bool]
    others: list[tuple[relax.Expr, Operand]]
    root: relax.Var | None = None
    steps: int = 0
    seen: Counter[relax.Var] = field(default_factory=Counter)

    def build(self, expr: relax.Expr) -> Callable[[Expr, Callable[[int], Expr]], Expr] | None:
        """A function of root's element and of what reads others; None if there is something else in between."""
        value = self.graph.values.get(expr) if isinstance(expr, relax.Var) else None
        if isinstance(expr, relax.Var) and self._depends(expr):
            self.seen[expr] += 1
            if self.is_root(value):
                if self.root is not None and not self.root.same_as(expr):
                    return None
                self.root = expr
                return lambda root, _read: root
            operation = _ELEMENTWISE.get(op_name(value))
            parts = [self.build(arg) for arg in value.args] if operation and value is not None else [None]
            if any(part is None for part in parts) or not self._is_whole(expr):
                return None
            self.steps += 1
            return lambda root, read: operation(*[part(root, read) for part in parts])  # type: ignore[misc]
        return self._other(expr)

    def _depends(self, expr: relax.Expr) -> bool:
        """Whether the root is an operand of ``expr``, through elementwise operators."""
        value = self.graph.values.get(expr) if isinstance(expr, relax.Var) else None
        if value is None or self.is_root(value):
            return value is not None
        return op_name(value) in _ELEMENTWISE and any(self._depends(arg) for arg in value.args)

    def _is_whole(self, expr: relax.Expr) -> bool:
        shape = shape_of(expr)
        return shape is not None and same_dims(shape, self.shape)

    def _other(self, expr: relax.Expr) -> Callable[[Expr, Callable[[int], Expr]], Expr] | None:
        array = as_array(expr)
        if array is not None and array.size == 1 and array.ndim <= len(self.shape):
            number = tirx.const(array.item(), array.dtype.name)
            return lambda _root, _read: number
        dims = shape_of(expr)
        if dims is None or len(dims) > len(self.shape) or dtype_of(expr) not in ("float32", "bool"):
            return None
        axes = []
        for logical, dim in enumerate(dims, len(self.shape) - len(dims)):
            if dim != 1 and not same_dims([dim], [self.shape[logical]]):
                return None
            axes.append(Axis(None if isinstance(dim, int) and dim == 1 else logical))
        self.others.append((expr, tuple(axes)))
        index = len(self.others) - 1
        return lambda _root, read: read(index)

    def is_private(self) -> bool:
        """Whether nobody else reads what lies between."""
        return all(self.graph.uses[var] == count for var, count in self.seen.items())


@dataclass(frozen=True)
class _Match:
    """The bindings of one attention: ``result`` is the variable that gets the kernel's value."""

    result: relax.Var
    tensors: list[tuple[relax.Expr, Operand]]
    before: kernel.Scores
    after: kernel.Scores | None
    order: tuple[int, ...]
    width: int

    def call(self, builder: relax.BlockBuilder, target: Target) -> relax.Call:
        query, key, value, *others = [operand for _, operand in self.tensors]
        tile = kernel.tile_for(self.width, target)
        plan = Attention(query, key, value, tuple(others), self.before, self.after, self.order, tile)
        emit, name = (gpu.attention, gpu.NAME) if target.is_gpu else (kernel.attention, kernel.NAME)

        def attention(*tensors: Any) -> Any:
            return emit(*tensors, plan=plan)

        tensors = tuple(tensor for tensor, _ in self.tensors)
        call = call_kernel(builder, attention, tensors, OPAQUE, {TEMPLATE_KEY: name})
        return relax.call_tir(call.args[0], call.args[1], self.result.ty)


def _match(graph: _Graph, product: relax.Var, widest: int) -> _Match | None:
    """The attention whose product with the values is bound to ``product``, of heads up to ``widest``."""
    call = graph.values[product]
    if not _is_product(call):
        return None
    scores_shape = shape_of(call.args[0])
    if scores_shape is None or len(scores_shape) < 3:
        return None
    others: list[tuple[relax.Expr, Operand]] = []
    after = _Chain(graph, scores_shape, lambda value: _is_softmax(value), others)
    behind = after.build(call.args[0])
    if behind is None or after.root is None or not after.is_private():
        return None
    before = _Chain(graph, scores_shape, _is_product, others)
    softmax = graph.values[after.root]
    ahead = before.build(softmax.args[0])
    if ahead is None or before.root is None or not before.is_private():
        return None
    query, key = graph.values[before.root].args
    value = call.args[1]
    tensors = _operands(graph, query, key, value, scores_shape, widest)
    result = shape_of(product)
    if tensors is None or result is None:
        return None
    result_var, order = _turned(graph, product)
    return _Match(result_var, [*tensors, *others], ahead, behind if after.steps else None, order, result[-1])


def _is_product(value: Any) -> bool:
    if op_name(value) != "relax.matmul":
        return False
    types = {dtype_of(value), *(dtype_of(arg) for arg in value.args)}
    return types == {"float32"}


def _is_softmax(value: Any) -> bool:
    if op_name(value) != "relax.nn.softmax":
        return False
    shape = shape_of(value)
    return shape is not None and int(value.attrs.axis) % len(shape) == len(shape) - 1


def _operands(
    graph: _Graph, query: relax.Expr, key: relax.Expr, value: relax.Expr, scores: list[Any], widest: int
) -> list[tuple[relax.Expr, Operand]] | None:
    """How queries, keys and values are read; None where their sizes don't fit the kernel."""
    rank = len(scores)
    shapes = [shape_of(tensor) for tensor in (query, key, value)]
    if any(shape is None or len(shape) != rank or 0 in shape for shape in shapes):
        return None
    asked, turned, given = [shape for shape in shapes if shape is not None]
    known = isinstance(asked[-1], int) and isinstance(given[-1], int)
    if not known or max(asked[-1], given[-1]) > widest or not same_dims([*asked[:-1], turned[-1]], scores):
        return None
    tensors = []
    for tensor, shape in zip((query, key, value), (asked, turned, given), strict=True):
        single = [dim == 1 and scores[axis] != 1 for axis, dim in enumerate(shape[:-2])]
        if not all(one or same_dims([dim], [scores[axis]]) for axis, (dim, one) in enumerate(zip(shape, single))):
            return None
        source, operand = trace(tensor, graph.values)
        logical = list(range(rank))
        if tensor is key:
            logical[-2:] = [rank - 1, rank - 2]
        axes = []
        for axis in operand:
            at = axis.logical
            shared = at is not None and at < rank - 2 and single[at]
            axes.append(Axis(None) if at is None or shared else Axis(logical[at], axis.div, axis.mod))
        tensors.append((source, tuple(axes)))
    return tensors


def _turned(graph: _Graph, product: relax.Var) -> tuple[relax.Var, tuple[int, ...]]:
    """(the variable of the result, the order of its axes): the transpose behind the product, if nothing else reads it.

    The kernel writes vectors along the last axis: that one must stay.
    """
    rank = len(shape_of(product) or [])
    plain = product, tuple(range(rank))
    readers = graph.readers.get(product, [])
    if len(readers) != 1 or graph.uses[product] != 1:
        return plain
    value = graph.values[readers[0]]
    if op_name(value) != "relax.permute_dims" or value.attrs.axes is None:
        return plain
    order = tuple(int(axis) for axis in value.attrs.axes)
    return (readers[0], order) if order[-1] == rank - 1 else plain


def _divided(a: Expr, b: Expr) -> Expr:
    """By a constant as a product with its inverse, where that is exact to half an ulp and quick."""
    if isinstance(b, tirx.FloatImm) and np.isfinite(b.value) and 1e-30 < abs(b.value) < 1e30:
        return a * tirx.const(float(np.float32(1) / np.float32(b.value)), "float32")
    return a / b
