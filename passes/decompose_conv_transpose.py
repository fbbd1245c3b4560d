"""Transposed convolution as a dense one over the input, followed by an interleave, in two and three dimensions.

With stride s along each of two axes the outputs fall into s x s phases. Each phase is an ordinary convolution of the
input with every s-th tap of the kernel, so all of them together are one convolution with s * s * O channels and
ceil(k / s) taps, and no multiplication by inserted zeros. (Shi et al., "Is the deconvolution layer the same as a
convolutional layer?", 2016.) Groups stay groups, each with the phases of its own channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tvm
from tvm import relax, te

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import array_of, as_array, constant, dims_of, op_name, shape_of

TRANSPOSED = {
    "relax.nn.conv2d_transpose": (relax.op.nn.conv2d, "NCHW", "IOHW"),
    "relax.nn.conv3d_transpose": (relax.op.nn.conv3d, "NCDHW", "IODHW"),
}
"""The convolution that each becomes, and the layouts that it has to be in."""


@each_function
def decompose_conv_transpose(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many transposed convolutions were replaced."""
    build = BindingBuilder(mod, name)
    count = 0
    for binding in bindings_of(mod[name]):
        value = binding.value
        if op_name(value) in TRANSPOSED and _applies(value):
            build.bind(binding.var, _decomposed(build, value, dims_of(binding.var)))
            count += 1
        else:
            build.keep(binding)
    return build.finish(mod[name]), count


def _applies(call: relax.Call) -> bool:
    """Constant weights, no dilation, ONNX's layout: what other kinds there are stay as they are."""
    attrs = call.attrs
    layouts = (attrs.data_layout, attrs.kernel_layout)
    plain = all(int(d) == 1 for d in attrs.dilation) and layouts == TRANSPOSED[op_name(call)][1:]
    return plain and as_array(call.args[1]) is not None and shape_of(call) is not None


def _decomposed(build: BindingBuilder, call: relax.Call, shape: list[Any]) -> relax.Expr:
    data, weight, attrs = call.args[0], array_of(call.args[1]), call.attrs
    strides, kernel, groups = [int(s) for s in attrs.strides], list(weight.shape[2:]), int(attrs.groups)
    padding = [int(p) for p in attrs.padding]
    before, after = padding[: len(kernel)], padding[len(kernel) :]
    extra = [int(p) for p in attrs.output_padding]
    taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
    reach = [max(0, (k - p + e - 1) // s) for k, p, e, s in zip(kernel, after, extra, strides, strict=True)]
    weights = constant(np.concatenate([_phase_weights(part, strides, taps) for part in np.split(weight, groups)]))
    convolve = TRANSPOSED[op_name(call)][0]
    window = [*(t - 1 for t in taps), *reach]
    phases = build.emit(convolve(data, weights, padding=window, groups=groups), "phases")
    channels, count = weight.shape[1], math.prod(strides)

    def interleave(source: te.Tensor) -> te.Tensor:
        def element(n: Any, o: Any, *places: Any) -> Any:
            moved = [place + b for place, b in zip(places, before, strict=True)]
            phase: Any = 0
            for place, stride in zip(moved, strides, strict=True):
                phase = phase * stride + place % stride
            channel = phase * channels + o
            if groups > 1:
                channel = (o // channels * count + phase) * channels + o % channels
            return source[n, channel, *(place // stride for place, stride in zip(moved, strides, strict=True))]

        return te.compute(shape, element, name="interleave")

    return build.builder.call_te(interleave, phases, primfunc_name_hint="interleave")


def _phase_weights(weight: np.ndarray, strides: list[int], taps: list[int]) -> np.ndarray:
    """[C, O, kernel...] → [product of strides * O, C, taps...]: for each phase every s-th tap, in reverse."""
    channels, out, *kernel = weight.shape
    padded = np.zeros((channels, out, *(t * s for t, s in zip(taps, strides, strict=True))), weight.dtype)
    padded[(slice(None), slice(None), *map(slice, kernel))] = weight
    rank = len(kernel)
    split = padded.reshape(channels, out, *(size for pair in zip(taps, strides, strict=True) for size in pair))
    split = np.flip(split, tuple(range(2, 2 + 2 * rank, 2)))
    order = [*range(3, 3 + 2 * rank, 2), 1, 0, *range(2, 2 + 2 * rank, 2)]
    return split.transpose(order).reshape(math.prod(strides) * out, channels, *taps)
