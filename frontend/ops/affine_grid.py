"""AffineGrid: https://onnx.ai/onnx/operators/onnx__AffineGrid.html. Sampling positions for GridSample."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .precision import cast_to, widened


@converter("AffineGrid", since=20)
def affine_grid(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """theta [N, 2, 3] or [N, 3, 4] and size (N, C, [D,] H, W) give [N, [D,] H, W, 2 or 3]: x first, then y and z."""
    theta, sizes = inputs[0], ctx.ints(inputs[1], "size")
    dims, count = tensor_shape(theta), len(sizes) - 2
    if count not in (2, 3) or len(dims) != 3:
        raise ConversionError(f"needs 4 or 5 sizes and a theta of rank 3, found {len(sizes)} and {len(dims)}")
    same_dim(ctx, [dims[1], count], "the rows of theta and the spatial axes")
    same_dim(ctx, [dims[2], count + 1], "the columns of theta and the spatial axes with one more")
    batch = same_dim(ctx, [dims[0], sizes[0]], "the batch of theta and of size")
    wide, corners = widened(ctx, theta), bool(node.attr("align_corners", 0))
    dtype = tensor_dtype(wide)

    def position(i: PrimExpr, size: PrimExpr) -> PrimExpr:
        """-1 and 1 are the middles of the outermost elements, or, without ``align_corners``, their outer edges."""
        at, extent = i.astype(dtype), prim(size).astype(dtype)
        one, two = tirx.const(1, dtype), tirx.const(2, dtype)
        if corners:  # of a single element ONNX's formula gives no number; it lies at -1
            return at * two / tirx.max(extent - one, one) - one
        return (at * two + one) / extent - one

    def affine_grid(matrix: te.Tensor, shape: list) -> te.Tensor:
        def element(n: tirx.Var, *rest: tirx.Var) -> PrimExpr:
            *at, row = rest
            total = matrix(n, row, prim(count))
            for column in range(count):
                axis = count - 1 - column
                total = total + matrix(n, row, prim(column)) * position(at[axis], shape[1 + axis])
            return total

        return te.compute(prim_list(shape), element, name="affine_grid")

    return cast_to(ctx, ctx.te(affine_grid, wide, [batch, *sizes[2:], count]), tensor_dtype(theta))
