"""What a model asks of a machine: fp32 operations of its products and convolutions, and the bytes they must read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tvm import relax

from onnxkiln.frontend import import_model


@dataclass(frozen=True)
class ModelCost:
    """``flops``: two for each multiplication of matrix products and of direct convolutions (Winograd needs fewer, so
    it can pass the limit). ``weight_bytes``: the constants that they read, each once; tables of embeddings not."""

    flops: int
    weight_bytes: int


def cost_of(model: Path, shapes: Mapping[str, Sequence[int]]) -> ModelCost:
    """The cost of one run on inputs of these ``shapes``. Steps of recurrent layers are not counted."""
    module = import_model(model, shapes).module
    flops, weights = 0, {}

    def visit(expression: relax.Expr) -> None:
        nonlocal flops
        if not isinstance(expression, relax.Call):
            return
        count = _COUNTS.get(getattr(expression.op, "name", ""))
        if count is None:
            return
        flops += count(expression)
        for operand in expression.args:
            if hasattr(operand, "value") and not isinstance(operand, relax.Var):
                weights[operand] = prod(_shape(operand)) * np.dtype(str(operand.ty.dtype)).itemsize

    relax.analysis.post_order_visit(module["main"], visit)
    return ModelCost(flops, sum(weights.values()))


def _shape(expression: relax.Expr) -> list[int]:
    return [int(dim) for dim in expression.ty.shape]


def _product(call: relax.Call) -> int:
    return 2 * prod(_shape(call)) * _shape(call.args[0])[-1]


def _convolution(call: relax.Call) -> int:
    """Each output sums over a filter: [outputs, inputs / groups, kernel...]."""
    return 2 * prod(_shape(call)) * prod(_shape(call.args[1])[1:])


def _transposed_convolution(call: relax.Call) -> int:
    """Each input is spread through a filter: [inputs, outputs / groups, kernel...]."""
    return 2 * prod(_shape(call.args[0])) * prod(_shape(call.args[1])[1:])


_COUNTS: dict[str, Callable[[Any], int]] = {
    "relax.matmul": _product,
    **{f"relax.nn.conv{rank}d": _convolution for rank in (1, 2, 3)},
    **{f"relax.nn.conv{rank}d_transpose": _transposed_convolution for rank in (1, 2, 3)},
}
