"""Which tensor expressions serve products of bytes: uint8 data, constant int8 weights, int32 sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm import relax, te, tirx

from ..schedules import conv2d, depthwise_conv2d, int8_conv2d, int8_matmul
from .constants import constant, dims_of, shape_of

if TYPE_CHECKING:
    from .select_kernels import Selector

TYPES = ("uint8", "int8", "int32")


def is_int8(data: relax.Expr, weight: np.ndarray | None, out: relax.Expr) -> bool:
    return weight is not None and (str(data.ty.dtype), weight.dtype.name, str(out.ty.dtype)) == TYPES


def select_int8_conv2d(selector: Selector, call: relax.Call, weight: np.ndarray) -> relax.Expr | None:
    """Dense, or depthwise with one output for each channel; other groups are left to plain loops."""
    data, attrs = call.args[0], call.attrs
    if (attrs.data_layout, attrs.kernel_layout) != ("NHWC", "OIHW"):
        return None
    window = [[int(value) for value in values] for values in (attrs.strides, attrs.padding, attrs.dilation)]
    strides, padding, dilation = window
    groups, shape = int(attrs.groups), dims_of(data)
    out, per_group, rows, columns = weight.shape
    width = conv2d.output_size(shape[2], columns, strides[1], dilation[1], padding[1], padding[3])
    height = conv2d.output_size(shape[1], rows, strides[0], dilation[0], padding[0], padding[2])
    if 0 in (*shape, height, width) or not isinstance(shape[3], int):
        return None
    if groups == 1:
        tile = int8_conv2d.pixel_tile(width, out, weight[0].size, selector.target)
        packed = constant(int8_conv2d.pack(weight))
        return selector.te(int8_conv2d.int8_conv2d, data, packed, out, *window, tile)
    if groups == out == shape[3] and per_group == 1:
        tile = depthwise_conv2d.pixel_tile(width, columns, selector.target)
        packed = constant(depthwise_conv2d.pack(weight))
        return selector.te(int8_depthwise_conv2d, data, packed, *window, tile)
    return None


def int8_depthwise_conv2d(
    data: te.Tensor, weight: te.Tensor, strides: list[int], padding: list[int], dilation: list[int], tile: int
) -> te.Tensor:
    """The template for fp32 serves: a tap is a product of two vectors, here widened to int32."""
    return depthwise_conv2d.depthwise_conv2d(data, weight, strides, padding, dilation, tile, "int32")


def select_int8_matmul(selector: Selector, call: relax.Call, weight: np.ndarray) -> relax.Expr | None:
    left = call.args[0]
    dims = shape_of(left)
    if dims is None or len(dims) < 2 or weight.ndim != 2 or 0 in (*dims, *weight.shape):
        return None
    if not isinstance(dims[-1], int | tirx.IntImm):
        return None
    depth, columns = weight.shape
    tile = int8_matmul.row_tile(dims[-2], columns, depth, selector.target)
    return selector.te(int8_matmul.int8_matmul, left, constant(int8_matmul.pack(weight)), columns, tile)
