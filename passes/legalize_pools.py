"""Max pools as tensor expressions that begin at -inf: TVM's own begin at the least finite number, and pad with it.

A window of -inf alone then gave -3.4e38. NaNs are passed over, as ONNX's reference evaluator does it. The maximum over
a wide window is that over its rows of the maxima in them: 26 comparisons for 13x13 instead of 169.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax, te, tirx, topi

from ..schedules.row_reduce import MAX
from .constants import dims_of, op_name, shape_of

WIDE = 49
"""Elements of a window from which on its axes are taken one after the other, each with a pass over memory."""


def max_pool(build: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """For ``relax.transform.LegalizeOps``: a max pool over 1 to 3 axes, channels first or last."""
    attrs, shape = call.attrs, shape_of(call)
    spatial = [str(attrs.layout).find(axis) for axis in "DHW" if axis in str(attrs.layout)]
    blocked = str(attrs.layout).upper() != attrs.layout
    if shape is None or attrs.layout != attrs.out_layout or attrs.ceil_mode or blocked:
        return tvm.ir.Op.get(op_name(call)).get_attr("FLegalize")(build, call)
    window = [[int(n) for n in listed] for listed in (attrs.pool_size, attrs.strides, attrs.dilation)]
    pads, axes = [int(n) for n in attrs.padding], range(len(spatial))
    steps = [list(axes)]
    if math.prod(window[0]) >= WIDE and shape_of(call.args[0]) is not None:
        steps = [[axis] for axis in reversed(axes)]
    data, sizes = call.args[0], dims_of(call.args[0]) if len(steps) > 1 else list(shape)
    for taken in steps:
        for axis in taken:
            sizes[spatial[axis]] = shape[spatial[axis]]
        places = [spatial[axis] for axis in taken]
        numbers = [[listed[axis] for axis in taken] for listed in window]
        around = [pads[axis + side] for side in (0, len(axes)) for axis in taken]
        args = (data, list(sizes), places, *numbers, around)
        pooled = build.call_te(_max_pool, *args, primfunc_name_hint="max_pool")
        data = pooled if taken is steps[-1] else build.emit(pooled)
    return data


def _max_pool(
    x: te.Tensor,
    shape: Sequence[Any],
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> te.Tensor:
    """[*shape] of ``x``'s dtype; ``pads`` are all befores, then all afters."""
    lowest = MAX.identity(str(x.dtype))
    before, after = [0] * len(shape), [0] * len(shape)
    for i, axis in enumerate(spatial):
        before[axis], after[axis] = pads[i], pads[len(spatial) + i]
    data = topi.nn.pad(x, before, after, lowest) if any(pads) else x
    taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel)]
    moves = {axis: (strides[i], dilations[i], taps[i].var) for i, axis in enumerate(spatial)}

    def element(*index: tirx.Var) -> Any:
        places = list(index)
        for axis, (stride, dilation, tap) in moves.items():
            places[axis] = index[axis] * stride + tap * dilation
        return MAX.over(data(*places), taps)

    return te.compute(shape, element, name="max_pool")
