"""Constants of an ONNX graph, read and added."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir


def constant_of(value: ir.Value | None) -> np.ndarray | None:
    """The array that a value always holds; None where it comes at run time (or may be overridden by an input)."""
    if value is None or value.is_graph_input():
        return None
    found = ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def add_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer; the name gets a number where it is taken."""
    taken, chosen, number = graph.initializers, name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(np.shape(array)), name=chosen)
    value = ir.Value(name=chosen, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def node_name(node: ir.Node) -> str:
    """The node's name, or that of what it makes."""
    return node.name or node.outputs[0].name or node.op_type


def is_onnx(node: ir.Node, *op_types: str) -> bool:
    """Whether a node is one of these operators of ONNX's own domain."""
    return node.domain in ("", "ai.onnx") and node.op_type in op_types


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads ``value``, once; None where there are others, or it is given as an output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def insert_after(graph: ir.Graph, value: ir.Value, nodes: Iterable[ir.Node]) -> None:
    """Put nodes right behind the one that makes ``value``, or first where it is an input."""
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, list(nodes))
    else:
        insert_first(graph, nodes)


def insert_first(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Put nodes before all others of a graph that has some."""
    graph.insert_before(graph[0], list(nodes))


AXES_AS_INPUT = 18
"""The opset from which reductions take their axes as an input."""


def reduction(
    model: ir.Model, op_type: str, value: ir.Value, axes: list[int], keepdims: bool, output: ir.Value
) -> ir.Node:
    """A node that reduces ``value`` along ``axes``, as the model's opset spells it."""
    attributes: dict[str, int | list[int]] = {"keepdims": int(keepdims)}
    inputs = [value]
    if opset_of(model) >= AXES_AS_INPUT:
        inputs.append(add_constant(model.graph, f"{output.name}.axes", np.array(axes, np.int64)))
    else:
        attributes["axes"] = axes
    return ir.node(op_type, inputs, attributes, outputs=[output])


def opset_of(model: ir.Model) -> int:
    """The version of ONNX's own operators that a model uses."""
    imports = {**model.graph.opset_imports, **model.opset_imports}
    return imports.get("", imports.get("ai.onnx", 1))
