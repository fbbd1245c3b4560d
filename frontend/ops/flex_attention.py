"""ai.onnx.preview's FlexAttention: scores and probabilities may go through graphs of the model's own.

https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from tvm import relax

from ...errors import ConversionError
from ..arith import floordiv, known
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..subgraphs import run_subgraph
from ..values import Value, tensor_dtype, tensor_shape
from .activation import number
from .broadcasting import broadcast_to
from .elementwise import multiply
from .matmul import matmul
from .precision import cast_to


@converter("FlexAttention", domain="ai.onnx.preview")
def flex_attention(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    query, key, value = inputs
    dims = [tensor_shape(item) for item in inputs]
    if any(len(shape) != 4 for shape in dims) or not known(dims[0][1], dims[1][1], dims[0][3]):
        raise ConversionError("query, key and value must have rank 4, heads and head size must be known")
    same_dim(ctx, [dims[1][1], dims[2][1]], "the heads of keys and values")
    same_dim(ctx, [dims[1][2], dims[2][2]], "the lengths of keys and values")
    dtype = tensor_dtype(query)
    wide = "float64" if dtype == "float64" else "float32"
    precision = node.attr("softmax_precision")
    inner = wide if precision is None else ir.DataType(precision).numpy().name
    scale = node.attr("scale", float(dims[0][3]) ** -0.5) ** 0.5
    if dims[0][1] != dims[1][1]:
        key, value = (repeated_heads(ctx, item, int(dims[0][1])) for item in (key, value))
    asked, known_by = (multiply(ctx, item, number(scale, item)) for item in (query, key))
    scores = cast_to(ctx, matmul(ctx, asked, ctx.emit(relax.op.permute_dims(known_by, [0, 1, 3, 2]))), inner)
    scores = _modified(ctx, node, "score_mod", scores)
    chances = ctx.emit(relax.op.nn.softmax(cast_to(ctx, scores, wide), -1))
    chances = _modified(ctx, node, "prob_mod", cast_to(ctx, chances, inner))
    return cast_to(ctx, matmul(ctx, chances, cast_to(ctx, ctx.tensor(value), inner)), dtype)


def repeated_heads(ctx: Context, value: Value, heads: int) -> relax.Expr:
    """[batch, few heads, length, size] with each head repeated in place, until there are ``heads``."""
    batch, few, length, size = tensor_shape(value)
    if not known(few) or int(few) < 1 or heads % int(few):
        raise ConversionError(f"{heads} heads of queries can't share {few} heads of keys")
    times = int(floordiv(heads, few))
    apart = ctx.reshape(value, [batch, few, 1, length, size])
    wide = broadcast_to(ctx, apart, [batch, few, times, length, size])
    return ctx.tensor(ctx.reshape(wide, [batch, heads, length, size]))


def _modified(ctx: Context, node: Node, name: str, value: relax.Expr) -> relax.Expr:
    if node.attr(name) is None:
        return value
    results = run_subgraph(ctx, node, name, [value])
    if len(results) != 1 or tensor_dtype(results[0]) != tensor_dtype(value):
        raise ConversionError(f"{name} must give one tensor of {tensor_dtype(value)}")
    for i, (a, b) in enumerate(zip(tensor_shape(results[0]), tensor_shape(value), strict=True)):
        same_dim(ctx, [a, b], f"what {name} takes and gives along axis {i}")
    return ctx.tensor(results[0])
