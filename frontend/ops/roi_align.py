"""RoiAlign: https://onnx.ai/onnx/operators/onnx__RoiAlign.html (He et al., Mask R-CNN, 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
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
from .gather import inside

MOST_SAMPLES = 4096
"""Along one side of an output element: an infinite box must not take for ever."""


@converter("RoiAlign")
def roi_align(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, rois, batches = inputs
    mode = node.attr("mode", "avg")
    if mode not in ("avg", "max"):
        raise ConversionError(f"mode {mode!r} is neither avg nor max")
    dims, boxes = tensor_shape(data), tensor_shape(rois)
    if len(dims) != 4 or len(boxes) != 2:
        raise ConversionError(f"needs data of rank 4 and rois of rank 2, found {len(dims)} and {len(boxes)}")
    same_dim(ctx, [boxes[1], 4], "the numbers of a roi and 4")
    count = same_dim(ctx, [boxes[0], tensor_shape(batches)[0]], "the numbers of rois and of batch indices")
    size = (node.attr("output_height", 1), node.attr("output_width", 1))
    shape = [count, dims[1], *size]
    if never_has_elements([*shape, *dims]):
        return zeros(ctx, shape, tensor_dtype(data))
    for dim in dims:
        ctx.check(prim(dim) > 0)
    # Before opset 16 there was no attribute, and no half pixel.
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    half = node.attr("coordinate_transformation_mode", default) == "half_pixel"
    ratio, scale = node.attr("sampling_ratio", 0), node.attr("spatial_scale", 1.0)

    def kernel(x: te.Tensor, rois: te.Tensor, batches: te.Tensor, shape: list) -> te.Tensor:
        def body(ins: Any, outs: Any) -> tirx.Stmt:
            buffers = [T.buffer_proxy(buffer) for buffer in (*ins, outs[0])]
            with IRBuilder() as builder:
                _loops(buffers, [prim(dim) for dim in x.shape], [prim(dim) for dim in shape], half, ratio, scale, mode)
            return builder.get()

        return te.extern([prim_list(shape)], [x, rois, batches], body, dtype=[str(x.dtype)], name="roi_align")

    return ctx.te(kernel, ctx.tensor(data), ctx.tensor(rois), ctx.tensor(batches), shape, name="roi_align")


def _loops(buffers: list, dims: list, shape: list, half: bool, ratio: int, scale: float, mode: str) -> None:
    """``mode`` "max" is ONNX's: the largest weighted element of all samples, not the largest sample."""
    x, rois, batches, out = buffers
    count, channels, rows, columns = shape
    dtype = "float64" if str(x.dtype) == "float64" else "float32"
    offset = tirx.const(0.5 if half else 0.0, dtype)
    with T.parallel(prim(0), count * channels) as fused:
        roi, channel = T.bind(tirx.truncdiv(fused, channels)), T.bind(tirx.truncmod(fused, channels))
        plane = T.bind((inside(batches[roi], dims[0]) * channels + channel) * dims[2] * dims[3])
        corners = [T.bind(rois[roi * 4 + i].astype(dtype) * tirx.const(scale, dtype) - offset) for i in range(4)]
        left, top, right, bottom = corners
        steps, grids = [], []
        for low, high, parts in ((top, bottom, rows), (left, right, columns)):
            length = high - low if half else tirx.max(high - low, tirx.const(1, dtype))
            step = T.bind(length / parts.astype(dtype))
            steps.append(step)
            needed = tirx.max(tirx.min(tirx.ceil(step), tirx.const(MOST_SAMPLES, dtype)), tirx.const(0, dtype))
            samples = prim(ratio) if ratio > 0 else needed.astype("int64")
            grids.append(T.bind(samples))
        total = T.buffer_proxy(T.alloc_buffer((1,), dtype, scope="local"))
        with T.serial(prim(0), rows) as row, T.serial(prim(0), columns) as column:
            total[0] = tirx.const(0, dtype) if mode == "avg" else tirx.min_value(dtype)
            with T.serial(prim(0), grids[0]) as i, T.serial(prim(0), grids[1]) as j:
                y = T.bind(top + (row.astype(dtype) + _middle(i, grids[0], dtype)) * steps[0])
                across = T.bind(left + (column.astype(dtype) + _middle(j, grids[1], dtype)) * steps[1])
                terms = _bilinear(x, plane, y, across, dims[2], dims[3], dtype)
                joined = reduce(tirx.max if mode == "max" else lambda a, b: a + b, terms)
                total[0] = tirx.max(total[0], joined) if mode == "max" else total[0] + joined
            samples = grids[0] * grids[1]
            mean = total[0] / tirx.max(samples, prim(1)).astype(dtype)
            largest = tirx.Select(samples > 0, total[0], tirx.const(0, dtype))
            out[(fused * rows + row) * columns + column] = (mean if mode == "avg" else largest).astype(str(x.dtype))


def _middle(i: PrimExpr, parts: PrimExpr, dtype: str) -> PrimExpr:
    """The middle of part ``i`` of ``parts`` equal parts of 1."""
    return (i.astype(dtype) + tirx.const(0.5, dtype)) / parts.astype(dtype)


def _bilinear(
    x: Any, plane: PrimExpr, y: PrimExpr, across: PrimExpr, rows: PrimExpr, columns: PrimExpr, dtype: str
) -> list[Any]:
    """Four elements times their weights, together the value between them; 0 more than one element outside."""
    outside, pairs = [], []
    for at, size in ((y, rows), (across, columns)):
        outside += [at < tirx.const(-1, dtype), at > size.astype(dtype)]
        # What is far outside is not read, but must not overflow on the way.
        near = T.bind(tirx.max(tirx.min(at, (size - 1).astype(dtype)), tirx.const(0, dtype)))
        low = T.bind(tirx.max(tirx.min(near.astype("int64"), size - 1), prim(0)))  # a NaN is any number by now
        high = T.bind(tirx.min(low + 1, size - 1))
        part = T.bind(near - low.astype(dtype))
        pairs.append([(low, tirx.const(1, dtype) - part), (high, part)])
    return [
        tirx.Select(
            tirx.any(*outside),
            tirx.const(0, dtype),
            x[plane + row * columns + column].astype(dtype) * (weight * other),
        )
        for row, weight in pairs[0]
        for column, other in pairs[1]
    ]
