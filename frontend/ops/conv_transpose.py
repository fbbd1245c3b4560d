"""ConvTranspose in 1, 2 and 3 dimensions: https://onnx.ai/onnx/operators/onnx__ConvTranspose.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import floordiv, known, maximum, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import emit_if_shape, never_has_elements, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from ..windows import attribute
from .conv import NARROW, biased, kernel_of, with_channels

_TRANSPOSED = {
    1: relax.op.nn.conv1d_transpose,
    2: relax.op.nn.conv2d_transpose,
    3: relax.op.nn.conv3d_transpose,
}
"""Ranks in which Relax has an operator that every later stage knows."""


@dataclass(frozen=True)
class Spread:
    """How inputs are spread: per axis stride, dilation, what is cut off before and after, and the output's size."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[PrimExpr, ...]
    after: tuple[PrimExpr, ...]
    extra: tuple[int, ...]
    sizes: tuple[PrimExpr, ...]


@converter("ConvTranspose")
def conv_transpose(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, weight = inputs[0], inputs[1]
    assert data is not None and weight is not None
    groups, kernel = node.attr("group", 1), kernel_of(node, data, weight)
    channels, features = (int(dim) for dim in tensor_shape(weight)[:2])
    if channels % groups:
        raise ConversionError(f"{channels} input channels can't be split into {groups} groups")
    data = with_channels(ctx, data, channels)
    dims = tensor_shape(data)
    spread = _spread(ctx, node, dims[2:], kernel)
    shape = [dims[0], features * groups, *spread.sizes]
    if never_has_elements(tensor_shape(weight)):  # a sum over nothing would leave its output unwritten
        out: relax.Expr | None = zeros(ctx, shape, tensor_dtype(data))
    else:
        out = _by_relax(ctx, data, weight, spread, groups, shape)
    if out is None:
        out = _written_out(ctx, data, weight, spread, groups, shape)
    return biased(ctx, out, inputs[2] if len(inputs) > 2 else None)


def _spread(ctx: Context, node: Node, sizes: Sequence[PrimExpr], kernel: Sequence[int]) -> Spread:
    count = len(kernel)
    strides, dilations = attribute(node, "strides", count, 1), attribute(node, "dilations", count, 1)
    extra = attribute(node, "output_padding", count, 0)
    auto_pad = node.attr("auto_pad", "NOTSET") or "NOTSET"
    full = [
        ctx.simplify((size - 1) * stride + more + (k - 1) * dilation + 1)
        for size, k, stride, dilation, more in zip(sizes, kernel, strides, dilations, extra, strict=True)
    ]
    before: Sequence[PrimExpr]
    after: Sequence[PrimExpr]
    wanted = node.attr("output_shape")
    if wanted is not None:
        wanted = wanted[-count:]  # some exporters give batch and channels too
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if wanted is None:
        pads = (0,) * 2 * count if auto_pad == "VALID" else attribute(node, "pads", 2 * count, 0)
        before, after = pads[:count], pads[count:]
        wanted = [size - b - a for size, b, a in zip(full, before, after, strict=True)]
    else:
        # Where more is wanted than the inputs reach, the rest at the end is 0.
        cut = [ctx.simplify(maximum(size - want, 0)) for size, want in zip(full, wanted, strict=True)]
        halves = [ctx.simplify(floordiv(total, 2)) for total in cut]
        others = [ctx.simplify(total - half) for total, half in zip(cut, halves, strict=True)]
        before, after = (halves, others) if auto_pad == "SAME_UPPER" else (others, halves)
    outputs = tuple(ctx.simplify(want) for want in wanted)
    for size in outputs:
        if known(size) and int(size) < 0:
            raise ConversionError(f"the pads leave a size of {size}")
        if not known(size):
            ctx.check(prim(size) >= 0)
    return Spread(strides, dilations, tuple(before), tuple(after), extra, outputs)


def _by_relax(
    ctx: Context, data: Value, weight: Value, spread: Spread, groups: int, shape: list[PrimExpr]
) -> relax.Expr | None:
    operator = _TRANSPOSED.get(len(spread.strides))
    pads = [*spread.before, *spread.after]
    plain = all(dilation == 1 for dilation in spread.dilations) and tensor_dtype(data) not in NARROW
    small = all(more < stride for more, stride in zip(spread.extra, spread.strides, strict=True))
    fitting = len(spread.strides) == 2 or ctx.constant(weight) is not None
    if operator is None or not fitting or not plain or not small or not known(*pads) or min(map(int, pads)) < 0:
        return None
    call = operator(
        ctx.tensor(data),
        ctx.tensor(weight),
        strides=list(spread.strides),
        padding=[int(pad) for pad in pads],
        output_padding=list(spread.extra),
        groups=groups,
    )
    return emit_if_shape(ctx, call, shape)


def _written_out(
    ctx: Context, data: Value, weight: Value, spread: Spread, groups: int, shape: list[PrimExpr]
) -> relax.Expr:
    """Each output gathers the inputs that reach it: those at a multiple of the stride from one of its taps."""
    dtype = tensor_dtype(data)
    wide = "float32" if dtype in NARROW else dtype

    def conv_transpose(x: te.Tensor, w: te.Tensor, shape: list, before: list) -> te.Tensor:
        inner, features = int(x.shape[1]) // groups, int(w.shape[1])
        channel = te.reduce_axis((0, inner), "channel")
        taps = [te.reduce_axis((0, k), f"k{axis}") for axis, k in enumerate(w.shape[2:])]

        def element(*i: tirx.Var) -> PrimExpr:
            group = tirx.floordiv(i[1], features)
            source = group * inner + channel.var
            inside, places = [], []
            for axis, (at, tap) in enumerate(zip(i[2:], taps, strict=True)):
                stride = spread.strides[axis]
                reached = at + prim(before[axis]) - tap.var * spread.dilations[axis]
                place = tirx.truncdiv(reached, prim(stride))
                inside += [reached >= 0, tirx.truncmod(reached, prim(stride)) == 0, place < x.shape[2 + axis]]
                places.append(place)
            value = tirx.if_then_else(tirx.all(*inside), x(i[0], source, *places).astype(wide), tirx.const(0, wide))
            factor = w(source, tirx.floormod(i[1], features), *(tap.var for tap in taps)).astype(wide)
            return te.sum(value * factor, axis=[channel, *taps])

        return te.compute(prim_list(shape), element, name="conv_transpose")

    out = ctx.te(conv_transpose, ctx.tensor(data), ctx.tensor(weight), shape, list(spread.before))
    return out if wide == dtype else ctx.emit(relax.op.astype(out, dtype))
