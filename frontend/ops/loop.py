"""Loop: https://onnx.ai/onnx/operators/onnx__Loop.html.

As in ONNX Runtime the body's condition counts even where the node gives none to start with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import ConversionError
from ..context import Context
from ..loops import Iteration, run_loop
from ..node import Node
from ..registry import converter
from ..subgraphs import run_subgraph, same_value, subgraph
from ..values import PrimExpr, Value, symbolic


@converter("Loop")
def loop(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    trip, condition, *start = [*inputs, None, None][: max(2, len(inputs))]
    body = subgraph(node, "body")
    if len(body.inputs) != len(start) + 2 or len(body.outputs) < max(len(start), node.output_count) + 1:
        raise ConversionError(
            f"the body takes {len(body.inputs)} and gives {len(body.outputs)} values, which doesn't fit "
            f"{len(start)} carried values and {node.output_count} outputs"
        )
    kept = [same_value(body.outputs[k + 1], body.inputs[k + 2]) for k in range(len(start))]
    moving = [k for k, same in enumerate(kept) if not same]

    def run(index: PrimExpr, carried: list[Value]) -> Iteration:
        values = list(start)
        for k, value in zip(moving, carried, strict=True):
            values[k] = value
        outputs = run_subgraph(ctx, node, "body", [symbolic(index), np.array(True), *values])
        return Iteration(outputs[0], [outputs[k + 1] for k in moving], outputs[len(start) + 1 :])

    carried, collected = run_loop(ctx, _trip(ctx, trip), condition, [start[k] for k in moving], run)
    results = list(start)
    for k, value in zip(moving, carried, strict=True):
        results[k] = value
    return [*results, *collected]


def _trip(ctx: Context, trip: Value | None) -> PrimExpr | None:
    if trip is None:
        return None
    (count,) = ctx.ints(trip, "the trip count")
    return count
