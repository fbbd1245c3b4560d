"""Windows that slide over the spatial axes: kernels, strides, dilations, pads and what they make of sizes.

https://onnx.ai/onnx/operators/onnx__Conv.html defines the attributes for convolutions and pools alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConversionError
from .arith import ceildiv, floordiv, known, maximum, prim, select
from .context import Context
from .node import Node
from .values import PrimExpr, as_int


@dataclass(frozen=True)
class Window:
    """Per spatial axis: kernel size, stride, dilation, and the elements padded before and after."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[PrimExpr, ...]
    after: tuple[PrimExpr, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """How many elements a window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def fixed_pads(self) -> list[int] | None:
        """Pads in Relax's order (all befores, all afters) when they are known."""
        pads = [*self.before, *self.after]
        return [int(pad) for pad in pads] if known(*pads) else None


def attribute(node: Node, name: str, count: int, default: int) -> tuple[int, ...]:
    values = node.attr(name)
    values = [default] * count if values is None else values
    if len(values) != count or any(value < (0 if name in ("pads", "output_padding") else 1) for value in values):
        raise ConversionError(f"{name} {values} doesn't fit {count} numbers of {'0' if default == 0 else '1'} or more")
    return tuple(int(value) for value in values)


def window_of(ctx: Context, node: Node, sizes: Sequence[PrimExpr], kernel: Sequence[int]) -> Window:
    """The window of ``node`` over axes of ``sizes``; ``auto_pad`` is resolved, by expressions where sizes are open."""
    count = len(sizes)
    strides, dilations = attribute(node, "strides", count, 1), attribute(node, "dilations", count, 1)
    auto_pad = node.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad in ("NOTSET", "VALID"):
        pads = (0,) * 2 * count if auto_pad == "VALID" else attribute(node, "pads", 2 * count, 0)
        return Window(tuple(kernel), strides, dilations, pads[:count], pads[count:])
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ConversionError(f"auto_pad {auto_pad!r} is unknown")
    small, large = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        extent = (k - 1) * dilation + 1
        missing = ctx.simplify(maximum((ceildiv_size(size, stride) - 1) * stride + extent - size, 0))
        small.append(ctx.simplify(floordiv(missing, 2)))
        large.append(ctx.simplify(missing - small[-1]))
    first, last = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return Window(tuple(kernel), strides, dilations, tuple(first), tuple(last))


def ceildiv_size(size: PrimExpr, by: int) -> PrimExpr:
    """``size / by`` rounded up; a size is never negative."""
    return floordiv(size + (by - 1), by)


def output_sizes(
    ctx: Context, window: Window, sizes: Sequence[PrimExpr], ceil: bool = False, cut: bool = False
) -> list[PrimExpr]:
    """How many windows fit along each axis. Refuses, now or at run time, inputs smaller than a window.

    With ``cut``, an input that is too small by less than a stride still has one window, cut off at the input's end:
    so ONNX Runtime's pools do it, whose division rounds towards zero.
    """
    axes = zip(sizes, window.extents, window.strides, window.before, window.after, strict=True)
    return [_output_size(ctx, *axis, ceil=ceil, cut=cut) for axis in axes]


def _output_size(
    ctx: Context, size: PrimExpr, extent: int, stride: int, before: PrimExpr, after: PrimExpr, ceil: bool, cut: bool
) -> PrimExpr:
    room = ctx.simplify(size + before + after - extent)
    fitting = ceildiv(room, stride) if ceil else floordiv(room, stride)
    if cut and not ceil and not (known(before, after) and int(before) + int(after) + 1 >= extent):
        fitting = select(room < 0, ceildiv(room, stride), fitting)
    count = ctx.simplify(fitting + 1)
    if ceil:
        # A window that would start in the padding after the input is left out.
        starts_outside = (count - 1) * stride >= size + before
        count = ctx.simplify(select(starts_outside, count - 1, count))
    if known(count) and (int(count) < 0 or (int(count) == 0 and as_int(size) != 0)):
        raise ConversionError(f"a window of {extent} is larger than the input: {size} and pads {before}, {after}")
    if not known(count):
        ctx.check(prim(count) >= 0)
    return count
