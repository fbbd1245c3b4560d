"""Random small ONNX graphs whose every value is known, for property tests and the fuzzer.

A graph is drawn node by node. Each node is evaluated as it is added, once for every assignment of sizes to the open
dims, so that a drawn node is always valid, its expected outputs are at hand, and any part can be cut out and run alone.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime
from onnx.reference import ReferenceEvaluator

from onnxkiln.compare import compare

Array = np.ndarray
Axis = tuple[int, ...]
"""The size of one axis under each assignment; all equal for a fixed one."""

OPSET = 24
CONTRIB = "com.microsoft"
BY_RUNTIME = ("GlobalLpPool", "MaxRoiPool", "Loop")
"""ONNX Runtime evaluates these and all of its own domain: the evaluator lacks them, or stacks what a Loop collects
along the wrong axis."""
ASSIGNMENTS = 3
LARGEST_VALUE = 1e4
LARGEST_ARRAY = 4000
SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31)
NOISE = {"float32": 3e-6, "float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}
"""Relative error that a correct implementation may have after each inexact operator, generously."""


@dataclass
class Value:
    """A tensor of the graph: ``arrays`` under each assignment, ``shadow`` the same with rounding noise along the way.

    ``exact`` values have no rounding errors. ``names`` holds names of open axes, for inputs only.
    """

    name: str
    arrays: list[Array]
    shadow: list[Array]
    exact: bool
    source: str = "node"
    names: tuple[str | int, ...] = ()

    @property
    def dtype(self) -> str:
        return str(self.arrays[0].dtype)

    @property
    def rank(self) -> int:
        return self.arrays[0].ndim

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(zip(*(array.shape for array in self.arrays), strict=True)) if self.rank else ()

    def fixed(self, axis: int) -> bool:
        return len(set(self.axes[axis])) == 1


@dataclass
class NodeDrawn:
    proto: onnx.NodeProto
    inputs: list[Value | None]
    outputs: list[Value]


@dataclass
class Graph:
    """What was drawn. ``outputs`` may hold inputs, constants and intermediate values too."""

    nodes: list[NodeDrawn] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    def leaves(self) -> list[Value]:
        """Inputs and constants that nodes or outputs use, in order."""
        used = [v for node in self.nodes for v in node.inputs if v is not None] + self.outputs
        made = {v.name for node in self.nodes for v in node.outputs}
        return list({v.name: v for v in used if v.name not in made}.values())

    def model(self, fixed: int | None = None) -> onnx.ModelProto:
        """As ONNX, with open dims, or with those of assignment ``fixed``."""
        infos, constants = [], []
        for value in self.leaves():
            if value.source == "constant":
                constants.append(onnx.numpy_helper.from_array(value.arrays[0], value.name))
            else:
                shape = value.names if fixed is None else value.arrays[fixed].shape
                infos.append(oh.make_tensor_value_info(value.name, _element(value), shape))
        outputs = [oh.make_tensor_value_info(v.name, _element(v), [None] * v.rank) for v in self.outputs]
        graph = oh.make_graph([node.proto for node in self.nodes], "drawn", infos, outputs, constants)
        return _model(graph)

    def feeds(self, assignment: int) -> dict[str, Array]:
        return {v.name: v.arrays[assignment] for v in self.leaves() if v.source != "constant"}

    def of_output(self, value: Value) -> Graph:
        """The part that computes one output."""
        wanted, nodes = {value.name}, []
        for node in reversed(self.nodes):
            if wanted & {v.name for v in node.outputs}:
                nodes.insert(0, node)
                wanted |= {v.name for v in node.inputs if v is not None}
        return Graph(nodes, [value])

    def without(self, index: int) -> Graph:
        """The graph with one node taken out: what it computed becomes an input (its open axes get fresh names)."""
        return Graph(self.nodes[:index] + self.nodes[index + 1 :], self.outputs).with_inputs_named()

    def with_inputs_named(self) -> Graph:
        for value in self.leaves():
            value.names = value.names or tuple(_axis_name(value, axis) for axis in range(value.rank))
        return self

    def __str__(self) -> str:
        return re.sub(r"(=\s*\{)[^{}]{300,}(\})", r"\1...\2", onnx.printer.to_text(self.model()))


def _axis_name(value: Value, axis: int) -> str | int:
    sizes = value.axes[axis]
    return sizes[0] if len(set(sizes)) == 1 else f"s_{'_'.join(map(str, sizes))}"


def _element(value: Value) -> int:
    return oh.np_dtype_to_tensor_dtype(value.arrays[0].dtype)


class Builder:
    """Grows a graph; all choices come from ``rng``."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.data = np.random.default_rng(rng.randrange(1 << 30))
        self.graph = Graph()
        self.pool: list[Value] = []
        self.symbols: dict[str, Axis] = {}
        self._count = 0

    # Choices

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.rng.randrange(len(options))]

    def size(self) -> int:
        return 0 if self.chance(0.02) else self.choice(SIZES)

    def axis(self, open_axis: float = 0.35) -> Axis:
        """A fixed axis, one of an open dim that is in use, or one of a new open dim."""
        if not self.chance(open_axis):
            return (self.size(),) * ASSIGNMENTS
        if self.symbols and self.chance(0.6):
            return self.choice(list(self.symbols.values()))
        return tuple(self.size() for _ in range(ASSIGNMENTS))

    def name_axis(self, sizes: Axis) -> str | int:
        """A size, or the name of an open dim that has these sizes: one in use or another of the same sizes."""
        if len(set(sizes)) == 1 and not self.chance(0.1):
            return sizes[0]
        known = [name for name, other in self.symbols.items() if other == sizes]
        if known and self.chance(0.8):
            return self.choice(known)
        name = f"d{len(self.symbols)}"
        self.symbols[name] = sizes
        return name

    # Values

    def array(self, dtype: str, shape: Sequence[int], low: float = -3, high: float = 3) -> Array:
        if dtype == "bool":
            return self.data.random(shape) < 0.5
        if dtype.startswith(("int", "uint")):
            return self.data.integers(0 if dtype[0] == "u" else int(low), int(high) + 1, shape).astype(dtype)
        return self.data.uniform(low, high, shape).astype(dtype)

    def fill(self, dtype: str, shape: Sequence[int]) -> Array:
        """Data of an input; now and then with the numbers that code forgets."""
        made = self.array(dtype, shape)
        if dtype.startswith("float") and made.size and self.chance(0.06):
            for _ in range(3):
                flat = made.reshape(-1)
                flat[self.rng.randrange(made.size)] = self.choice([np.nan, np.inf, -np.inf, -0.0, 0.0, 60.0, -60.0])
        return made

    def input(self, dtype: str = "float32", axes: Iterable[Axis] | None = None, rank: int | None = None) -> Value:
        if axes is None:
            axes = [self.axis() for _ in range(self.choice([0, 1, 2, 2, 3, 3, 4]) if rank is None else rank)]
        axes = tuple(axes)
        arrays = [self.fill(dtype, [axis[i] for axis in axes]) for i in range(ASSIGNMENTS)]
        names = tuple(self.name_axis(axis) for axis in axes)
        return self._keep(Value(self.name("x"), arrays, arrays, True, "input", names))

    def constant(self, array: Array) -> Value:
        arrays = [np.asarray(array)] * ASSIGNMENTS
        return Value(self.name("c"), arrays, arrays, True, "constant")

    def ints(self, *numbers: int) -> Value:
        return self.constant(np.array(numbers, dtype=np.int64))

    def operand(
        self, dtypes: Sequence[str] = ("float32",), ranks: Sequence[int] = (0, 1, 2, 3, 4), fresh: float = 0.3,
        accept: Callable[[Value], bool] = lambda _value: True,
    ) -> Value | None:  # fmt: skip
        """A value in the pool, recent ones preferred, or a new input; None where a new one is not accepted either."""
        fitting = [v for v in self.pool if v.dtype in dtypes and v.rank in ranks and accept(v)]
        if fitting and not self.chance(fresh):
            return self.choice(fitting[-4:] if self.chance(0.7) else fitting)
        value = self.input(self.choice(dtypes), rank=self.choice(ranks))
        return value if accept(value) else None

    def partner(self, value: Value, dtype: str | None = None) -> Value:
        """Something that broadcasts with ``value``: of the pool, a new input, or a constant."""
        dtype = dtype or value.dtype
        fitting = [v for v in self.pool if v.dtype == dtype and _broadcasts(v, value)]
        if fitting and self.chance(0.5):
            return self.choice(fitting)
        axes = list(value.axes[self.rng.randrange(value.rank + 1) :])
        for i, sizes in enumerate(axes):
            if self.chance(0.25):
                axes[i] = (1,) * ASSIGNMENTS
            elif self.chance(0.06):  # an open dim that is 1, and stretched, at some sizes only
                axes[i] = tuple(1 if self.chance(0.5) else size for size in sizes)
        if all(len(set(sizes)) == 1 for sizes in axes) and self.chance(0.5):
            return self.constant(self.array(dtype, [sizes[0] for sizes in axes]))
        return self.input(dtype, axes)

    def _keep(self, value: Value) -> Value:
        self.pool.append(value)
        return value

    def name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    # Nodes

    def node(
        self, op_type: str, *inputs: Value | None, outputs: int = 1, moves: bool = False,
        captures: Sequence[Value] = (), **attributes: Any,
    ) -> list[Value]:  # fmt: skip
        """Add a node; ``moves`` says that it adds no rounding error. No values come back where it is not valid.

        ``captures`` are values that a body among the attributes takes by name.
        """
        names = [self.name("v") for _ in range(outputs)]
        proto = oh.make_node(op_type, ["" if v is None else v.name for v in inputs], names, **attributes)
        known = [v for v in (*inputs, *captures) if v is not None]
        exact_inputs = all(v.exact for v in known)
        try:
            results = [_evaluate(proto, {v.name: v.arrays[i] for v in known}) for i in range(ASSIGNMENTS)]
            shadows = results
            if not exact_inputs:
                shadows = [_evaluate(proto, {v.name: v.shadow[i] for v in known}) for i in range(ASSIGNMENTS)]
        except Exception:
            return []
        made = []
        for position, name in enumerate(names):
            arrays, shadow = [r[position] for r in results], [r[position] for r in shadows]
            if not _usable(arrays) or any(a.shape != s.shape for a, s in zip(arrays, shadow)):
                return []
            exact = arrays[0].dtype.kind in "biu" or (moves and exact_inputs)
            if not moves:
                shadow = [self._noisy(array) for array in shadow]
            if not exact_inputs and not all(_close(a, s) for a, s in zip(arrays, shadow)):
                return []  # ill-conditioned: two right implementations could differ
            made.append(Value(name, arrays, shadow, exact))
        self.graph.nodes.append(NodeDrawn(proto, [*inputs, *captures], made))
        self.pool += made
        return made

    def _noisy(self, array: Array) -> Array:
        noise = NOISE.get(str(array.dtype))
        if noise is None:
            return array
        with np.errstate(all="ignore"):
            return (array * (1 + noise * self.data.choice([-1, 1], array.shape))).astype(array.dtype)

    def finish(self) -> Graph:
        """Choose the outputs: all that nothing uses, and some of everything else."""
        used = {v.name for node in self.graph.nodes for v in node.inputs if v is not None}
        made = [v for node in self.graph.nodes for v in node.outputs]
        outputs = [v for v in made if v.name not in used or self.chance(0.15)]
        leaves = [v for v in self.graph.leaves() if v.source == "input" or v.arrays[0].dtype != "object"]
        if leaves and self.chance(0.3):
            outputs.append(self.choice(leaves))
        self.graph.outputs = outputs
        return self.graph


def _broadcasts(left: Value, right: Value) -> bool:
    pairs = zip(reversed(left.axes), reversed(right.axes))
    return all(a == b or a == (1,) * ASSIGNMENTS or b == (1,) * ASSIGNMENTS for a, b in pairs)


def _evaluate(proto: onnx.NodeProto, feeds: dict[str, Array]) -> list[Array]:
    infos = [oh.make_tensor_value_info(n, oh.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    outputs = [oh.make_value_info(name, onnx.TypeProto()) for name in proto.output]
    graph = oh.make_graph([proto], "one", infos, outputs)
    model = _model(graph)
    if proto.domain == CONTRIB or proto.op_type in BY_RUNTIME:
        return _evaluate_by_runtime(model, feeds)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, feeds)]


def _evaluate_by_runtime(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(result) for result in session.run(None, feeds)]


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    imports = [oh.make_opsetid("", OPSET), oh.make_opsetid(CONTRIB, 1)]
    return oh.make_model(graph, opset_imports=imports, ir_version=10)


def _usable(arrays: list[Array]) -> bool:
    kind = arrays[0].dtype
    if len({array.ndim for array in arrays}) != 1 or (kind.kind not in "biuf" and kind != "bfloat16"):
        return False
    for array in arrays:
        if array.size > LARGEST_ARRAY:
            return False
        finite = np.abs(array[np.isfinite(array)].astype(np.float64))
        if finite.max(initial=0) > LARGEST_VALUE:
            return False
    return True


def _close(array: Array, shadow: Array) -> bool:
    return compare("", array, shadow).used < 0.2
