"""Max pools as tensor expressions that begin at -inf: TVM's own begin at the least finite number, and pad with it.

A window of -inf alone then gave -3.4e38. NaNs are passed over, as ONNX's reference evaluator does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax, te, tirx, topi

from ..schedules.row_reduce import MAX
from .constants import op_name, shape_of


def max_pool(build: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """For ``relax.transform.LegalizeOps``: a max pool over 1 to 3 axes, channels first or last."""
    attrs, shape = call.attrs, shape_of(call)
    spatial = [str(attrs.layout).find(axis) for axis in "DHW" if axis in str(attrs.layout)]
    blocked = str(attrs.layout).upper() != attrs.layout
    if shape is None or attrs.layout != attrs.out_layout or attrs.ceil_mode or blocked:
        return tvm.ir.Op.get(op_name(call)).get_attr("FLegalize")(build, call)
    numbers = [[int(n) for n in listed] for listed in (attrs.pool_size, attrs.strides, attrs.dilation, attrs.padding)]
    return build.call_te(_max_pool, call.args[0], list(shape), spatial, *numbers, primfunc_name_hint="max_pool")


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
