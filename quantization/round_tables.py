"""Tables that rows are taken from (embeddings) as int8, a scale for each row: for size, as nothing is computed in them.

``Gather(table, i)`` becomes ``Cast(Gather(integers, i)) * Gather(scales, i)``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant, constant_of, is_onnx, node_name
from .parameters import quantize_weight
from .plan import Selection

FEWEST = 4096
"""Elements of a table that is worth it."""


def round_tables(model: ir.Model, selection: Selection) -> list[str]:
    """Rewrite in place; returns the names of the nodes that read integers now. Other readers keep their table."""
    graph, done = model.graph, []
    made: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    for node in list(graph):
        table = _table(node)
        if table is None or selection.excludes(node):
            continue
        source, index = node.inputs[0], node.inputs[1]
        assert source is not None and index is not None
        if source not in made:
            rounded = quantize_weight(table, 0)
            name = source.name or node_name(node)
            scales = rounded.scales.reshape(-1, 1)
            made[source] = (
                add_constant(graph, f"{name}.int", rounded.values),
                add_constant(graph, f"{name}.scales", scales),
            )
        _replace(graph, node, made[source], index)
        done.append(node_name(node))
    return done


def _table(node: ir.Node) -> np.ndarray | None:
    """The float32 matrix whose rows ``node`` takes; None where it does something else."""
    if not is_onnx(node, "Gather") or node.attributes.get_int("axis", 0) != 0 or len(node.inputs) != 2:
        return None
    table = constant_of(node.inputs[0])
    if table is None or table.dtype != np.float32 or table.ndim != 2 or table.size < FEWEST:
        return None
    return table if np.isfinite(table).all() else None


def _replace(graph: ir.Graph, node: ir.Node, tables: tuple[ir.Value, ir.Value], index: ir.Value) -> None:
    old, name = node.outputs[0], node_name(node)
    parts = [ir.node("Gather", [table, index], {"axis": 0}, outputs=[ir.Value(name=f"{name}.{what}")])
             for table, what in zip(tables, ("integers", "scale"), strict=True)]  # fmt: skip
    rows, scale = (part.outputs[0] for part in parts)
    real = ir.node("Cast", [rows], {"to": int(ir.DataType.FLOAT)}, outputs=[ir.Value(name=f"{name}.real")])
    result = ir.node("Mul", [real.outputs[0], scale], outputs=[ir.Value(name=f"{name}.rows")])
    called, kind, shape = old.name, old.type, old.shape
    graph.insert_after(node, [*parts, real, result])
    old.replace_all_uses_with(result.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    fresh = result.outputs[0]
    fresh.name, fresh.type, fresh.shape = called, kind, shape
