"""Which kernel serves an operator, and why not a faster algorithm: said beside ``select_kernels``."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from .constants import dtype_of, op_name, shape_of
from .explanations import explain


def explain_kernel(call: relax.Call, weight: np.ndarray | None, kernel: str | None) -> None:
    """``weight`` is the second operand where it is constant; ``kernel`` the tensor expression chosen, None without."""
    kind = op_name(call).rpartition(".")[2]
    subject = f"{kind} {_shapes(call)}"
    reason = _unfit(call, weight) if kernel is None else "constant weights, packed when compiling"
    if kernel is not None and weight is None:
        reason = "both operands are computed: the right one is packed at run time"
    explain(subject, kernel or "a template's kernel", kernel is not None, reason)
    if kind == "conv2d" and weight is not None and kernel not in (None, "winograd_conv2d"):
        explain(subject, "Winograd", False, _no_winograd(call, weight))


def _shapes(call: relax.Call) -> str:
    return " x ".join("x".join(map(str, shape_of(arg) or ["unknown shape"])) for arg in call.args[:2])


def _unfit(call: relax.Call, weight: np.ndarray | None) -> str:
    types = sorted({dtype_of(arg) for arg in call.args[:2]})
    shapes = [shape_of(arg) for arg in call.args[:2]]
    if None in shapes:
        return "a shape isn't known"
    if any(0 in (shape or ()) for shape in [*shapes, shape_of(call)]):
        return "there is nothing to compute"
    if types not in (["float32"], ["int8", "uint8"]):
        return f"kernels take float32, or uint8 by int8, these are {', '.join(types)}"
    if op_name(call) != "relax.nn.conv2d":
        return "a vector, or batch dims that are not the same on both sides"
    if weight is None:
        return "the weights are computed at run time"
    if call.attrs.data_layout != "NHWC":
        return f"its layout stayed {call.attrs.data_layout}: see convert_layout"
    return "grouped, over an open number of channels"


def _no_winograd(call: relax.Call, weight: np.ndarray) -> str:
    attrs = call.attrs
    if weight.shape[2:] != (3, 3):
        return f"the window is {'x'.join(map(str, weight.shape[2:]))}, not 3x3"
    if _numbers(attrs.strides) != [1, 1] or _numbers(attrs.dilation) != [1, 1]:
        return f"strides are {_numbers(attrs.strides)}, dilations {_numbers(attrs.dilation)}, not 1"
    if int(attrs.groups) != 1:
        return f"{int(attrs.groups)} groups"
    if np.array_equal(weight, np.rint(weight)):
        return "the weights are integers, whose sums must be exact"
    return "its transforms would cost more than they save for so few channels or pixels"


def _numbers(values: Any) -> list[int]:
    return [int(value) for value in values]
