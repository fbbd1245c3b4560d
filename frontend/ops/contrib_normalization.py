"""ONNX Runtime's normalizations: SkipLayerNormalization and those by the root mean square, called simplified.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. SimplifiedLayerNormalization is written
without a domain although ONNX doesn't define it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, rank
from .elementwise import add
from .normalization import normalized, root_mean_square_normalized
from .shape import normalized_axes

DOMAIN = "com.microsoft"


@converter("SimplifiedLayerNormalization")
@converter("SimplifiedLayerNormalization", domain=DOMAIN)
def simplified_layer_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    refuse_statistics(node)
    (axis,) = normalized_axes([node.attr("axis", -1)], rank(inputs[0]))
    return root_mean_square_normalized(ctx, inputs[0], inputs[1], axis, node.attr("epsilon", 1e-5))


@converter("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """(normalized sum, two statistics that nothing reads, the sum): the sum is that of input, skip and bias."""
    data, skip, scale, shift, bias = [*inputs, None, None][:5]
    total = _sum(ctx, node, [data, bias, skip])
    assert scale is not None
    result = normalized(ctx, total, scale, shift, rank(total) - 1, node.attr("epsilon", 1e-12))
    return [result, total, total, total][: node.output_count]


@converter("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_normalization(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    data, skip, scale, bias = [*inputs, None][:4]
    total = _sum(ctx, node, [data, bias, skip])
    assert scale is not None
    result = root_mean_square_normalized(ctx, total, scale, rank(total) - 1, node.attr("epsilon", 1e-12))
    return [result, total, total, total][: node.output_count]


def _sum(ctx: Context, node: Node, terms: Sequence[Value | None]) -> Value:
    refuse_statistics(node)
    given: list[Any] = [term for term in terms if term is not None]
    total = given[0]
    for term in given[1:]:
        total = add(ctx, total, term)
    return total


def refuse_statistics(node: Node) -> None:
    """ONNX Runtime gives them on GPUs alone, for training."""
    if node.has_output(1) or node.has_output(2):
        raise ConversionError(f"the outputs mean and inv_std_var of {node.op_type} are not supported")
