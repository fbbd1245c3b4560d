"""MaxRoiPool: https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html (Girshick, Fast R-CNN, 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .elementwise import larger
from .gather import inside

FAR = 1e9
"""Corners are kept within this, so that none overflows as an integer."""


@converter("MaxRoiPool")
def max_roi_pool(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Each roi (batch index, x1, y1, x2, y2) is cut into cells; a cell without elements gives 0."""
    data, rois = inputs
    dims, boxes, size = tensor_shape(data), tensor_shape(rois), node.attr("pooled_shape")
    if len(dims) != 4 or len(boxes) != 2 or len(size) != 2 or min(size) < 1:
        raise ConversionError(f"data of rank {len(dims)}, rois of rank {len(boxes)} and pooled_shape {size}")
    same_dim(ctx, [boxes[1], 5], "the numbers of a roi and 5")
    shape = [boxes[0], dims[1], *size]
    if never_has_elements([*shape, *dims]):
        return zeros(ctx, shape, tensor_dtype(data))
    for dim in dims:
        ctx.check(prim(dim) > 0)
    scale = node.attr("spatial_scale", 1.0)

    def kernel(x: te.Tensor, rois: te.Tensor, shape: list) -> te.Tensor:
        def body(ins: Any, outs: Any) -> tirx.Stmt:
            buffers = [T.buffer_proxy(buffer) for buffer in (*ins, outs[0])]
            with IRBuilder() as builder:
                _loops(buffers, [prim(dim) for dim in x.shape], [prim(dim) for dim in shape], scale)
            return builder.get()

        return te.extern([prim_list(shape)], [x, rois], body, dtype=[str(x.dtype)], name="max_roi_pool")

    return ctx.te(kernel, data, rois, shape, name="max_roi_pool")


def _loops(buffers: list, dims: list, shape: list, scale: float) -> None:
    x, rois, out = buffers
    count, channels, rows, columns = shape
    dtype = str(x.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    with T.parallel(prim(0), count * channels) as fused:
        roi, channel = T.bind(tirx.truncdiv(fused, channels)), T.bind(tirx.truncmod(fused, channels))
        batch = inside(_limited(rois[roi * 5].astype(wide), wide).astype("int64"), dims[0])
        plane = T.bind((batch * channels + channel) * dims[2] * dims[3])
        corners = [T.bind(_corner(rois[roi * 5 + i].astype(wide), scale, wide)) for i in (1, 2, 3, 4)]
        left, top, right, bottom = corners
        with T.serial(prim(0), rows) as row, T.serial(prim(0), columns) as column:
            first_row, last_row = _cell(row, rows, top, bottom, dims[2], wide)
            first_column, last_column = _cell(column, columns, left, right, dims[3], wide)
            at = T.bind((fused * rows + row) * columns + column)
            empty = tirx.any(last_row <= first_row, last_column <= first_column)
            out[at] = tirx.Select(empty, tirx.const(0, dtype), tirx.min_value(dtype))
            loops = [T.serial(a, tirx.max(b, a)) for a, b in ((first_row, last_row), (first_column, last_column))]
            with loops[0] as i, loops[1] as j:
                out[at] = larger(x[plane + i * dims[3] + j], out[at])


def _limited(value: PrimExpr, wide: str) -> PrimExpr:
    """No number at all counts as far to the left."""
    return tirx.max(tirx.min(value, tirx.const(FAR, wide)), tirx.const(-FAR, wide))


def _corner(value: PrimExpr, scale: float, wide: str) -> PrimExpr:
    """Scaled and rounded, halves away from 0 as in C."""
    scaled = _limited(value * tirx.const(scale, wide), wide)
    half = tirx.const(0.5, wide)
    up, down = tirx.floor(scaled + half), tirx.ceil(scaled - half)
    return tirx.Select(scaled < tirx.const(0, wide), down, up).astype("int64")


def _cell(i: PrimExpr, parts: PrimExpr, low: PrimExpr, high: PrimExpr, size: PrimExpr, wide: str) -> tuple[Any, Any]:
    """Where part ``i`` of a side begins and ends, inside of the image."""
    step = T.bind(tirx.max(high - low + 1, prim(1)).astype(wide) / parts.astype(wide))
    ends = []
    for at in (tirx.floor(i.astype(wide) * step), tirx.ceil((i + 1).astype(wide) * step)):
        ends.append(T.bind(tirx.max(tirx.min(at.astype("int64") + low, size), prim(0))))
    return ends[0], ends[1]
