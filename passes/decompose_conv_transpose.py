"""Transposed convolution as a dense one over the input, followed by an interleave.

With stride s the outputs fall into s x s phases. Each phase is an ordinary convolution of the input with every s-th tap
of the kernel, so all of them together are one convolution with s * s * O channels and ceil(k / s) taps, and no
multiplication by inserted zeros. (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax, te

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import array_of, as_array, constant, dims_of, op_name, shape_of


@each_function
def decompose_conv_transpose(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many transposed convolutions were replaced."""
    build = BindingBuilder(mod, name)
    count = 0
    for binding in bindings_of(mod[name]):
        value = binding.value
        if op_name(value) == "relax.nn.conv2d_transpose" and _applies(value):
            build.bind(binding.var, _decomposed(build, value, dims_of(binding.var)))
            count += 1
        else:
            build.keep(binding)
    return build.finish(mod[name]), count


def _applies(call: relax.Call) -> bool:
    """Constant weights, one group, no dilation, ONNX's layout: what other kinds there are stay as they are."""
    attrs = call.attrs
    layouts = (attrs.data_layout, attrs.kernel_layout)
    plain = int(attrs.groups) == 1 and all(int(d) == 1 for d in attrs.dilation)
    return plain and layouts == ("NCHW", "IOHW") and as_array(call.args[1]) is not None and shape_of(call) is not None


def _decomposed(build: BindingBuilder, call: relax.Call, shape: list[Any]) -> relax.Expr:
    data, weight = call.args[0], array_of(call.args[1])
    attrs = call.attrs
    stride, kernel = [int(s) for s in attrs.strides], list(weight.shape[2:])
    top, left, bottom, right = (int(p) for p in attrs.padding)
    extra = [int(p) for p in attrs.output_padding]
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    after = [max(0, (k - p + e - 1) // s) for k, p, e, s in zip(kernel, (bottom, right), extra, stride, strict=True)]
    padding = (taps[0] - 1, taps[1] - 1, *after)
    weights = constant(_phase_weights(weight, stride, taps))
    phases = build.emit(relax.op.nn.conv2d(data, weights, padding=padding), "phases")

    def interleave(source: te.Tensor) -> te.Tensor:
        channels = weight.shape[1]

        def element(n: Any, o: Any, y: Any, x: Any) -> Any:
            phase = (y + top) % stride[0] * stride[1] + (x + left) % stride[1]
            return source[n, phase * channels + o, (y + top) // stride[0], (x + left) // stride[1]]

        return te.compute(shape, element, name="interleave")

    return build.builder.call_te(interleave, phases, primfunc_name_hint="interleave")


def _phase_weights(weight: np.ndarray, stride: list[int], taps: list[int]) -> np.ndarray:
    """[C, O, kh, kw] → [sh * sw * O, C, th, tw]: for each phase every s-th tap, in reverse."""
    channels, out, kh, kw = weight.shape
    padded = np.zeros((channels, out, taps[0] * stride[0], taps[1] * stride[1]), weight.dtype)
    padded[:, :, :kh, :kw] = weight
    split = padded.reshape(channels, out, taps[0], stride[0], taps[1], stride[1])[:, :, ::-1, :, ::-1, :]
    return split.transpose(3, 5, 1, 0, 2, 4).reshape(stride[0] * stride[1] * out, channels, taps[0], taps[1])
