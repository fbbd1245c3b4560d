"""3-D convolutions as 2-D ones: the planes that the kernel's depth covers lie side by side as channels.

The planes are copied as often as the kernel is deep. The 2-D kernel that then runs multiplies and adds at the speed of
any other one, and that is where the time goes unless there are next to no channels. With groups the planes of one depth
are convolved at a time, and the results added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm import relax, te

from .constants import as_array, constant, dims_of, dtype_of, shape_of

if TYPE_CHECKING:
    from .convert_layout import Layouts


def unfold_conv3d(layouts: Layouts, call: relax.Call) -> relax.Expr | None:
    """The convolution's value as [N, D', H', W', O]; None where it has to stay: computed weights, other types."""
    data, attrs = call.args[0], call.attrs
    weight = as_array(call.args[1])
    if weight is None or dtype_of(data) != "float32" or attrs.data_layout != "NCDHW":
        return None
    dims, outputs = shape_of(data), shape_of(call)
    if dims is None or outputs is None or 0 in (*dims, *outputs):
        return None
    moved = layouts.get(data, 5)
    if moved is None:
        return None
    front, top, left, back, bottom, right = (int(pad) for pad in attrs.padding)
    depth_stride, *strides = (int(stride) for stride in attrs.strides)
    depth_dilation, *dilation = (int(step) for step in attrs.dilation)
    if front or back:
        moved = layouts.build.emit(relax.op.nn.pad(moved, [0, 0, front, back, 0, 0, 0, 0, 0, 0]), "padded")
    starts = [tap * depth_dilation for tap in range(weight.shape[2])]
    taps = [_planes(layouts, moved, start, depth_stride, outputs[2]) for start in starts]
    kernels = [weight[:, :, tap] for tap in range(weight.shape[2])]
    groups = int(attrs.groups)
    if groups == 1:
        taps = [layouts.build.emit(relax.op.concat(taps, 4), "unfolded") if len(taps) > 1 else taps[0]]
        kernels = [np.concatenate(kernels, 1)]
    window = (strides, (top, left, bottom, right), dilation, groups)
    sums = None
    for planes, kernel in zip(taps, kernels, strict=True):
        n, depth, *sizes = dims_of(planes)
        flat = layouts.build.emit(relax.op.reshape(planes, [n * depth, *sizes]), "planes")
        weights = constant(np.ascontiguousarray(kernel))
        part = layouts.build.emit(relax.op.nn.conv2d(flat, weights, *window, "NHWC", "OIHW", "NHWC"), "conv2d")
        sums = part if sums is None else layouts.build.emit(relax.op.add(sums, part), "sum")
    return relax.op.reshape(sums, [outputs[axis] for axis in (0, 2, 3, 4, 1)])


def _planes(layouts: Layouts, data: relax.Expr, start: int, stride: int, count: Any) -> relax.Expr:
    """[N, D, H, W, C] → [N, count, H, W, C]: every ``stride``-th plane from ``start`` on. ``count`` may be open."""
    if isinstance(count, int):
        end = start + (count - 1) * stride + 1
        return layouts.build.emit(relax.op.strided_slice(data, [1], [start], [end], [stride]), "tap")

    def plane_slice(x: te.Tensor) -> te.Tensor:
        shape = [x.shape[0], count, *x.shape[2:]]
        return te.compute(shape, lambda n, d, h, w, c: x(n, d * stride + start, h, w, c), name="tap")

    return layouts.build.emit(layouts.build.builder.call_te(plane_slice, data, primfunc_name_hint="plane_slice"), "tap")
