"""Col2Im: https://onnx.ai/onnx/operators/onnx__Col2Im.html. Each pixel gathers the blocks that lie over it."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from ...errors import ConversionError
from ..arith import floordiv, known, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from ..windows import attribute
from .precision import in_float32
from .shape import product


@converter("Col2Im", since=18)
def col2im(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """[N, C * block elements, positions] to [N, C, *image]; image and block may be known only at run time."""
    data, image, block = inputs[0], ctx.ints(inputs[1], "image_shape"), ctx.ints(inputs[2], "block_shape")
    dims, count = tensor_shape(data), len(image)
    if len(dims) != 3 or len(block) != count or not count:
        raise ConversionError(f"data of rank {len(dims)}, {count} image sizes and {len(block)} block sizes")
    strides, dilations = attribute(node, "strides", count, 1), attribute(node, "dilations", count, 1)
    pads = attribute(node, "pads", 2 * count, 0)
    for size in (*image, *block):
        ctx.check(prim(size) >= (0 if known(size) else 1))
    steps = [
        ctx.simplify(floordiv(image[i] + pads[i] + pads[count + i] - dilations[i] * (block[i] - 1) - 1, strides[i]) + 1)
        for i in range(count)
    ]
    elements = ctx.simplify(product(block))
    channels = _divided(ctx, dims[1], elements)
    _agree(ctx, dims[2], ctx.simplify(product(steps)))
    shape = [dims[0], channels, *image]
    if never_has_elements(shape) or never_has_elements(dims):
        return zeros(ctx, shape, tensor_dtype(data))

    def kernel(x: te.Tensor, shape: list, block: list, steps: list) -> te.Tensor:
        inner = [te.reduce_axis((prim(0), prim(size)), f"k{i}") for i, size in enumerate(block)]

        def element(n: tirx.Var, c: tirx.Var, *at: tirx.Var) -> PrimExpr:
            row, column, covered = c, prim(0), []
            for i, k in enumerate(inner):
                start = at[i] + pads[i] - k.var * dilations[i]
                place = tirx.floordiv(start, prim(strides[i]))
                covered += [tirx.EQ(place * strides[i], start), place >= 0, place < prim(steps[i])]
                row, column = row * prim(block[i]) + k.var, column * prim(steps[i]) + place
            value = tirx.if_then_else(tirx.all(*covered), x(n, row, column), tirx.const(0, str(x.dtype)))
            return te.sum(value, axis=inner)

        return te.compute(prim_list(shape), element, name="col2im")

    return in_float32(ctx, data, lambda x: ctx.te(kernel, x, shape, block, steps, name="col2im"))


def _divided(ctx: Context, rows: PrimExpr, elements: PrimExpr) -> PrimExpr:
    if known(elements) and int(elements) < 1:
        raise ConversionError("a block without elements")
    channels = ctx.simplify(floordiv(rows, elements if known(elements) else tirx.max(elements, prim(1))))
    _agree(ctx, rows, ctx.simplify(channels * elements))
    return channels


def _agree(ctx: Context, found: PrimExpr, needed: PrimExpr) -> None:
    if known(found, needed) and int(found) != int(needed):
        raise ConversionError(f"the input has {found} rows or columns of blocks, {needed} are needed")
    ctx.check(tirx.EQ(prim(found), prim(needed)))
