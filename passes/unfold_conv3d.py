"""3-D convolutions as 2-D ones: the planes that the kernel's depth covers lie side by side as channels.

The planes are copied as often as the kernel is deep. The 2-D kernel that then runs multiplies and adds at the speed of
any other one, and that is where the time goes unless there are next to no channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm import relax

from .constants import as_array, constant, dims_of, dtype_of, shape_of

if TYPE_CHECKING:
    from .convert_layout import Layouts


def unfold_conv3d(layouts: Layouts, call: relax.Call) -> relax.Expr | None:
    """The convolution's value as [N, D', H', W', O]; None where it has to stay: groups, open depths, other types."""
    data, attrs = call.args[0], call.attrs
    weight = as_array(call.args[1])
    if weight is None or int(attrs.groups) != 1 or dtype_of(data) != "float32" or attrs.data_layout != "NCDHW":
        return None
    dims, outputs = shape_of(data), shape_of(call)
    if dims is None or outputs is None or 0 in (*dims, *outputs) or not isinstance(dims[2], int):
        return None
    moved = layouts.get(data, 5)
    if moved is None:
        return None
    front, top, left, back, bottom, right = (int(pad) for pad in attrs.padding)
    depth_stride, *strides = (int(stride) for stride in attrs.strides)
    depth_dilation, *dilation = (int(step) for step in attrs.dilation)
    planes = _unfold(layouts, moved, weight.shape[2], depth_stride, depth_dilation, (front, back))
    n, depth, height, width, channels = dims_of(planes)
    flat = layouts.build.emit(relax.op.reshape(planes, [n * depth, height, width, channels]), "planes")
    packed = weight.transpose(0, 2, 1, 3, 4).reshape(weight.shape[0], channels, *weight.shape[3:])
    window = (strides, (top, left, bottom, right), dilation, 1)
    kernel = constant(np.ascontiguousarray(packed))
    result = layouts.build.emit(relax.op.nn.conv2d(flat, kernel, *window, "NHWC", "OIHW", "NHWC"), "conv2d")
    _, rows, columns, out = dims_of(result)
    return relax.op.reshape(result, [n, depth, rows, columns, out])


def _unfold(
    layouts: Layouts, data: relax.Expr, kernel: int, stride: int, dilation: int, padding: tuple[int, int]
) -> relax.Expr:
    """[N, D, H, W, C] → [N, D', H, W, kernel * C]: what each window over the depth covers."""
    depth = int(dims_of(data)[1]) + sum(padding)
    if any(padding):
        data = layouts.build.emit(relax.op.nn.pad(data, [0, 0, *padding, 0, 0, 0, 0, 0, 0]), "padded")
    reach = depth - dilation * (kernel - 1)  # where windows may begin
    taps = [
        layouts.build.emit(relax.op.strided_slice(data, [1], [tap * dilation], [tap * dilation + reach], [stride]))
        for tap in range(kernel)
    ]
    return layouts.build.emit(relax.op.concat(taps, 4), "unfolded") if kernel > 1 else taps[0]
