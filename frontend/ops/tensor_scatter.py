"""TensorScatter, the update of a key-value cache: https://onnx.ai/onnx/operators/onnx__TensorScatter.html.

Each element of the result looks for the update that lands on it, so nothing can be written out of bounds, and what
``linear`` mode forbids (updates past the end) falls away.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .gather import require
from .shape import normalized_axes


@converter("TensorScatter", since=24)
def tensor_scatter(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    past, update, starts = [*inputs, None][:3]
    assert past is not None and update is not None
    dims, shape = tensor_shape(past), tensor_shape(update)
    mode = node.attr("mode", "linear")
    if mode not in ("linear", "circular") or len(dims) != len(shape):
        raise ConversionError(f"mode {mode!r} with a cache of rank {len(dims)} and an update of rank {len(shape)}")
    (axis,) = normalized_axes([node.attr("axis", -2)], len(dims))
    for i, (a, b) in enumerate(zip(dims, shape, strict=True)):
        if i != axis:
            same_dim(ctx, [a, b], f"cache and update along axis {i}")
    require(ctx, shape[axis], dims[axis], "updates")
    if tensor_dtype(past) != tensor_dtype(update):
        raise ConversionError(f"a cache of {tensor_dtype(past)} can't take an update of {tensor_dtype(update)}")
    if starts is not None:
        same_dim(ctx, [tensor_shape(starts)[0], dims[0]], "write indices and the batch")
    if never_has_elements(dims) or never_has_elements(shape):
        return past

    def tensor_scatter(cache: te.Tensor, update: te.Tensor, *starts: te.Tensor) -> te.Tensor:
        size, length = prim(cache.shape[axis]), prim(update.shape[axis])

        def element(*i: tirx.Var) -> PrimExpr:
            start = starts[0](i[0]).astype("int64") if starts else prim(0)
            at = i[axis] - start
            if mode == "circular":
                at = tirx.floormod(at, size)
            lands = tirx.all(at >= 0, at < length)
            return tirx.if_then_else(lands, update(*i[:axis], at, *i[axis + 1 :]), cache(*i))

        return te.compute(cache.shape, element, name="tensor_scatter")

    return ctx.te(tensor_scatter, past, update, *([] if starts is None else [starts]))
