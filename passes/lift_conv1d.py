"""1-D convolutions as 2-D ones of height 1, so that one layout and one template serve both.

One forward sweep: a convolution's twin of rank 4 goes on through the elementwise operators behind it; going back to
rank 3 is a view and costs nothing.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import as_array, constant, is_constant, op_name, shape_of
from .layout_rules import ELEMENTWISE


class _Lifted:
    """``twins`` maps variables of shape [N, C, W] to theirs of shape [N, C, 1, W]."""

    def __init__(self, mod: tvm.IRModule, name: str):
        self.build = BindingBuilder(mod, name)
        self.twins: dict[relax.Var, relax.Var] = {}

    def get(self, expr: relax.Expr) -> relax.Expr:
        """The operand with a height of 1; scalars and operands of lower rank broadcast as they are."""
        if isinstance(expr, relax.Var) and expr in self.twins:
            return self.twins[expr]
        dims = shape_of(expr)
        if dims is None or len(dims) < 2:
            return expr
        lifted = [*dims[:-1], 1, dims[-1]]
        array = as_array(expr)
        if array is not None:
            return constant(array.reshape(lifted))
        return self.build.emit(relax.op.reshape(expr, lifted), "lifted")

    def set(self, var: relax.Var, twin: relax.Expr) -> None:
        self.twins[var] = self.build.emit(twin, f"{var.name}_2d")
        self.build.bind(var, relax.op.reshape(self.twins[var], var.ty.shape))


@each_function
def lift_conv1d(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many 1-D convolutions were lifted."""
    lifted = _Lifted(mod, name)
    function = mod[name]
    count = 0
    for binding in bindings_of(function):
        value = binding.value
        if op_name(value) == "relax.nn.conv1d" and _applies(value):
            lifted.set(binding.var, _conv2d(lifted, value))
            count += 1
        elif op_name(value) in ELEMENTWISE and _follows(lifted, value):
            tensors = [lifted.get(arg) for arg in value.args]
            lifted.set(binding.var, tvm.ir.Call(value.op, tensors, value.attrs, value.ty_args))
        else:
            lifted.build.keep(binding)
    return lifted.build.finish(function), count


def _applies(call: relax.Call) -> bool:
    attrs = call.attrs
    return is_constant(call.args[1]) and (attrs.data_layout, attrs.kernel_layout) == ("NCW", "OIW") and shape_of(call) is not None


def _follows(lifted: _Lifted, call: relax.Call) -> bool:
    if shape_of(call) is None or len(shape_of(call) or ()) != 3:
        return False
    return any(isinstance(arg, relax.Var) and arg in lifted.twins for arg in call.args) and all(
        isinstance(arg.ty, relax.TensorType) for arg in call.args
    )


def _conv2d(lifted: _Lifted, call: relax.Call) -> relax.Expr:
    attrs: Any = call.attrs
    weight = constant(as_array(call.args[1])[:, :, None, :])
    left, right = (int(p) for p in attrs.padding)
    return relax.op.nn.conv2d(
        lifted.get(call.args[0]),
        weight,
        strides=(1, int(attrs.strides[0])),
        padding=(0, left, 0, right),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
        out_dtype=attrs.out_dtype,
    )
