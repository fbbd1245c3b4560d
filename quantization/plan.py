"""Which nodes become integers, which values are rounded, and who reads the rounded value.

Layers with weights are chosen by the user's exclusions; operators that only carry or combine their results (pooling,
additions, concatenations, reshapes) join where they lie between integer layers, so that values stay integers there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import onnx_ir as ir

from .graph_tensors import constant_of, is_onnx, node_name
from .layers import Layer, layers_of

MOVING = frozenset(("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace"))
"""What gives elements of its input and no other numbers: the result keeps the input's scale."""

COMBINING = frozenset(("Add", "Concat", "AveragePool", "GlobalAveragePool", "Resize", "Upsample"))
"""What computes new numbers from quantized ones, in a scale of their own."""

ELEMENTWISE = frozenset((
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh",
    "Softplus", "Softsign", "Mish", "Gelu", "Erf", "ThresholdedRelu", "Abs", "Neg", "Sqrt", "Exp", "Identity",
))  # fmt: skip
"""Activations: what follows a layer element by element, before its result is rounded."""

ARITHMETIC = frozenset(("Mul", "Add", "Sub", "Div"))


@dataclass(frozen=True)
class Selection:
    """What the user leaves in floating point: ``nodes`` are names (``*`` and ``?`` match), ``ops`` operators."""

    nodes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()

    def excludes(self, node: ir.Node) -> bool:
        return node.op_type in self.ops or any(fnmatchcase(node_name(node), pattern) for pattern in self.nodes)


@dataclass
class Plan:
    """``layers`` and ``carriers`` are the integer nodes; ``values`` those that are rounded, in order of the graph.

    ``same_scale`` maps a value to the one whose scale it shares; ``readers`` are the nodes, by value, that read the
    rounded form.
    """

    layers: list[Layer] = field(default_factory=list)
    carriers: list[ir.Node] = field(default_factory=list)
    values: list[ir.Value] = field(default_factory=list)
    same_scale: dict[ir.Value, ir.Value] = field(default_factory=dict)
    readers: dict[ir.Value, list[ir.Node]] = field(default_factory=dict)

    @property
    def measured(self) -> list[ir.Value]:
        """The values whose ranges must be known."""
        return [value for value in self.values if value not in self.same_scale]


def make_plan(graph: ir.Graph, selection: Selection, in_float: Collection[str] = (), carry: bool = True) -> Plan:
    """The plan for a graph whose scales are folded; ``in_float`` names layers that stay in floating point.

    Without ``carry`` only layers become integers, as in dynamic quantization.
    """
    layers = [x for x in layers_of(graph) if not selection.excludes(x.node) and x.name not in in_float]
    integer = {layer.node for layer in layers}
    carriers = _carriers(graph, integer, selection) if carry else []
    integer |= set(carriers)
    plan = Plan(layers, carriers)
    for node in graph:
        if node in integer:
            for value in _data_inputs(node):
                if value not in plan.readers:
                    plan.readers[value] = []
                    _add(plan, value, integer)
    for value in plan.values:
        rounded_anyway = _source(value) in integer
        plan.readers[value] = [
            use.node for use in value.uses() if use.node in integer or (rounded_anyway and use.node.graph is graph)
        ]
    return plan


def _add(plan: Plan, value: ir.Value, integer: Collection[ir.Node]) -> None:
    plan.values.append(value)
    producer = value.producer()
    if producer in integer and producer is not None and is_onnx(producer, *MOVING):
        data = producer.inputs[0]
        assert data is not None
        plan.same_scale[value] = plan.same_scale.get(data, data)


def _data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of an integer node that hold the numbers it works on."""
    inputs = node.inputs if is_onnx(node, "Add", "Concat") else node.inputs[:1]
    return [value for value in dict.fromkeys(inputs) if value is not None]


def _carriers(graph: ir.Graph, layers: Collection[ir.Node], selection: Selection) -> list[ir.Node]:
    """Nodes all of whose data comes from integer nodes, and some of whose results go to one.

    Starts with all that could be, and takes away until nothing changes.
    """
    found = {node: None for node in graph if is_onnx(node, *MOVING, *COMBINING) and not selection.excludes(node)}
    found = {node: None for node in found if _can_carry(node)}
    while True:
        integer = set(layers) | set(found)
        kept = {
            node: None
            for node in found
            if all(_source(value) in integer for value in _data_inputs(node)) and _reaches(node.outputs[0], integer)
        }
        if len(kept) == len(found):
            return list(kept)
        found = kept


def _can_carry(node: ir.Node) -> bool:
    if any(constant_of(value) is not None for value in _data_inputs(node)):
        return False
    if any(list(value.uses()) or value.is_graph_output() for value in node.outputs[1:]):
        return False
    if is_onnx(node, "Resize", "Upsample"):
        return node.attributes.get_string("mode", "nearest") in ("nearest", "linear")
    return True


def _source(value: ir.Value) -> ir.Node | None:
    """The node whose result ``value`` is after activations, such as ``x * sigmoid(x)`` of a convolution's x."""
    found = _through_activations(value, 0)
    return None if found is None else found.producer()


def _through_activations(value: ir.Value, depth: int) -> ir.Value | None:
    node = value.producer()
    if node is None or depth > 16:
        return value
    if is_onnx(node, *ELEMENTWISE) and node.inputs[0] is not None:
        return _through_activations(node.inputs[0], depth + 1)
    if is_onnx(node, *ARITHMETIC):
        roots = {
            _through_activations(operand, depth + 1)
            for operand in node.inputs
            if operand is not None and constant_of(operand) is None
        }
        if len(roots) == 1:
            return roots.pop()
    return value


def _reaches(value: ir.Value, integer: Collection[ir.Node]) -> bool:
    """Whether an integer node reads ``value``, or what activations make of it."""
    waiting, seen = [value], {value}
    while waiting:
        for use in waiting.pop().uses():
            node = use.node
            if node in integer:
                return True
            if is_onnx(node, *ELEMENTWISE, *ARITHMETIC):
                fresh = [output for output in node.outputs if output not in seen]
                waiting += fresh
                seen.update(fresh)
    return False


def unknown_patterns(graph: ir.Graph, selection: Selection) -> list[str]:
    """Names and operators of a selection that the graph doesn't have."""
    nodes = list(graph)
    missing = [p for p in selection.nodes if not any(fnmatchcase(node_name(node), p) for node in nodes)]
    return missing + [op for op in selection.ops if not any(node.op_type == op for node in nodes)]
