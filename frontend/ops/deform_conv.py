"""DeformConv in two dims: https://onnx.ai/onnx/operators/onnx__DeformConv.html (Zhu et al., 2019).

What each place of the kernel sees is sampled first; the convolution then is one matrix product per group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import known, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from ..windows import Window, output_sizes, window_of
from .elementwise import add
from .matmul import matmul
from .normalization import per_channel
from .precision import cast_to, widened


@converter("DeformConv", since=19)
def deform_conv(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, weight, offset, bias, mask = [*inputs, None, None][:5]
    assert data is not None and weight is not None and offset is not None
    dims, kernel = tensor_shape(data), tensor_shape(weight)
    if len(dims) != 4 or len(kernel) != 4 or len(tensor_shape(offset)) != 4 or not known(*kernel, dims[1]):
        raise ConversionError(f"needs data, weight and offsets of rank 4 with known channels, found {list(dims)}")
    dtype, sizes = tensor_dtype(data), [int(size) for size in kernel]
    window = window_of(ctx, node, dims[2:], sizes[2:])
    group, offset_group = node.attr("group", 1), node.attr("offset_group", 1)
    channels = int(dims[1])
    if sizes[1] * group != channels or sizes[0] % group or channels % offset_group:
        raise ConversionError(f"{channels} channels, weight {sizes}, {group} groups and {offset_group} of offsets")
    spots = sizes[2] * sizes[3]
    image = output_sizes(ctx, window, dims[2:])
    for value, count, what in ((offset, 2 * offset_group * spots, "offsets"), (mask, offset_group * spots, "masks")):
        if value is not None:
            for found, needed in zip(tensor_shape(value), [dims[0], count, *image], strict=True):
                same_dim(ctx, [found, needed], f"the dims of {what} and what they are for")
    shape = [dims[0], sizes[0], *image]
    if never_has_elements(shape) or never_has_elements(dims):
        return zeros(ctx, shape, dtype)
    x = widened(ctx, data)
    others = [cast_to(ctx, ctx.tensor(value), tensor_dtype(x)) for value in (offset, mask) if value is not None]
    plan = _Sampling(window, channels // offset_group)
    rows = [dims[0], group, sizes[1] * spots, ctx.simplify(image[0] * image[1])]
    seen = ctx.te(plan.kernel, x, *others, [dims[0], channels, sizes[2], sizes[3], *image], name="deformed")
    factors = ctx.reshape(cast_to(ctx, ctx.tensor(weight), tensor_dtype(x)), [group, sizes[0] // group, rows[2]])
    result: relax.Expr = ctx.tensor(ctx.reshape(matmul(ctx, factors, ctx.reshape(seen, rows)), shape))
    if bias is not None:
        result = add(ctx, result, per_channel(ctx, cast_to(ctx, ctx.tensor(bias), tensor_dtype(x)), 4))
    return cast_to(ctx, result, dtype)


@dataclass(frozen=True)
class _Sampling:
    """The window, and how many channels share an offset."""

    window: Window
    together: int

    def kernel(self, x: te.Tensor, offset: te.Tensor, *rest: Any) -> te.Tensor:
        """[N, C, kernel rows, kernel columns, rows, columns] of interpolated elements, times the mask."""
        *masks, shape = rest
        dtype, window = str(x.dtype), self.window
        height, width = (int(k) for k in window.kernel)

        def element(n: tirx.Var, c: tirx.Var, ki: tirx.Var, kj: tirx.Var, i: tirx.Var, j: tirx.Var) -> PrimExpr:
            spot = (c // self.together * height + ki) * width + kj
            places = []
            for axis, (k, at) in enumerate(((ki, i), (kj, j))):
                base = at * window.strides[axis] - prim(window.before[axis]) + k * window.dilations[axis]
                places.append(base.astype(dtype) + offset(n, spot * 2 + axis, i, j))
            value = _interpolated(x, n, c, places[0], places[1])
            return value * masks[0](n, spot, i, j) if masks else value

        return te.compute(prim_list(shape), element, name="deformed")


def _interpolated(x: te.Tensor, n: PrimExpr, c: PrimExpr, row: PrimExpr, column: PrimExpr) -> PrimExpr:
    """The bilinear mean of four elements, of which those outside of the image are 0."""
    dtype = str(x.dtype)
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
    corners = []
    for at, size in ((row, prim(x.shape[2])), (column, prim(x.shape[3]))):
        # Far outside, and where it is no number, nothing may overflow on the way.
        near = tirx.max(tirx.min(at, size.astype(dtype)), tirx.const(-1, dtype))
        low = tirx.floor(near)
        part, first = near - low, low.astype("int64")
        pair = []
        for place, weight in ((first, one - part), (first + 1, part)):
            pair.append((tirx.max(tirx.min(place, size - 1), prim(0)), weight, tirx.all(place >= 0, place < size)))
        corners.append(pair)
    value = zero
    for r, by, inside in corners[0]:
        for s, times, within in corners[1]:
            value = value + tirx.Select(tirx.all(inside, within), x(n, c, r, s) * (by * times), zero)
    return value
