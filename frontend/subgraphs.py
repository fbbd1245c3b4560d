"""Graphs in attributes: converting them with values for their inputs, in sight of the outer graph's values."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..errors import ConversionError
from .context import Context
from .node import Node
from .values import Value


def subgraph(node: Node, name: str) -> ir.Graph:
    graph = node.attr(name)
    if not isinstance(graph, ir.Graph):
        raise ConversionError(f"{name} must be a graph")
    return graph


def run_subgraph(ctx: Context, node: Node, name: str, inputs: Sequence[Value] = ()) -> list[Value]:
    """The outputs' values; names defined inside are forgotten."""
    graph = subgraph(node, name)
    saved = ctx.converter.environment
    ctx.converter.environment = dict(saved)
    try:
        for value, given in zip(graph.inputs, inputs, strict=True):
            if value.name:
                ctx.converter.environment[value.name] = given
        return ctx.converter.run(graph, f"{node.where}/{node.name}.{name}")
    finally:
        ctx.converter.environment = saved


def same_value(output: ir.Value, source: ir.Value) -> bool:
    """Whether a graph hands one of its inputs on as it is."""
    while output is not source:
        node = output.producer()
        if node is None or node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
            return False
        (given,) = node.inputs
        if given is None:
            return False
        output = given
    return True
