"""Zeros that a Pad adds in front of a convolution become the convolution's own padding, which is never written out.

TensorFlow's exporters write padding this way, and so do convolutions over time that look back only.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import op_name, shape_of
from .layout_rules import with_attributes

CONVOLUTIONS = {"relax.nn.conv1d": "NCW", "relax.nn.conv2d": "NCHW", "relax.nn.conv3d": "NCDHW"}


@each_function
def fold_padding(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many convolutions took padding over."""
    build = BindingBuilder(mod, name)
    pads: dict[relax.Var, Any] = {}
    count = 0
    for binding in bindings_of(mod[name]):
        value = binding.value
        if op_name(value) == "relax.nn.pad" and _adds_zeros_around_places(value):
            pads[binding.var] = value
        if _is_convolution(value) and value.args[0] in pads:
            build.bind(binding.var, _folded(value, pads[value.args[0]]))
            count += 1
        else:
            build.keep(binding)
    return build.finish(mod[name]), count


def _adds_zeros_around_places(call: relax.Call) -> bool:
    attrs: Any = call.attrs
    widths = [int(width) for width in attrs.pad_width]
    plain = attrs.pad_mode == "constant" and float(attrs.pad_value) == 0.0
    return plain and not any(widths[:4]) and min(widths) >= 0


def _is_convolution(call: relax.Expr) -> bool:
    layout = CONVOLUTIONS.get(op_name(call))
    return layout is not None and call.attrs.data_layout == layout and shape_of(call) is not None


def _folded(call: relax.Call, pad: Any) -> relax.Call:
    """Befores and afters alternate in a Pad; of a convolution all befores come first."""
    widths = [int(width) for width in pad.attrs.pad_width][4:]
    around = [*widths[::2], *widths[1::2]]
    padding = [int(own) + more for own, more in zip(call.attrs.padding, around, strict=True)]
    return with_attributes(call, [pad.args[0], *call.args[1:]], padding=padding)
