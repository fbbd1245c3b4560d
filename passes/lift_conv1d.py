"""1-D convolutions as 2-D ones of height 1, so that one layout and one template serve both.

2-D ones over a width of 1, as some exporters write them, are laid down: templates tile the width. One forward sweep: a
convolution's twin goes on through the elementwise operators behind it, and through those that ``line_rules`` has over
one axis; going back is a view and costs nothing.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import array_of, as_array, constant, dims_of, is_constant, op_name, shape_of
from .layout_rules import ELEMENTWISE
from .line_rules import RULES, is_ruled, operands


class _Lifted:
    """``twins`` maps variables of shape [N, C, W] or [N, C, W, 1] to theirs of shape [N, C, 1, W]."""

    def __init__(self, mod: tvm.IRModule, name: str):
        self.build = BindingBuilder(mod, name)
        self.twins: dict[relax.Var, relax.Var] = {}

    def get(self, expr: relax.Expr, rank: int) -> relax.Expr:
        """An operand beside tensors of ``rank`` with a height of 1; scalars broadcast as they are."""
        if isinstance(expr, relax.Var) and expr in self.twins:
            return self.twins[expr]
        dims = shape_of(expr)
        if dims is None or len(dims) < 2:
            return expr
        lifted = [*dims[:-1], 1, dims[-1]] if rank == 3 else [*dims[:-2], 1, dims[-2]]
        array = as_array(expr)
        if array is not None:
            return constant(array.reshape(lifted))
        return self.build.emit(relax.op.reshape(expr, lifted), "lifted")

    def has(self, expr: relax.Expr) -> bool:
        return isinstance(expr, relax.Var) and expr in self.twins

    def set(self, var: relax.Var, expr: relax.Expr) -> None:
        """``var`` from its twin, a view of it; where an axis went, there is no twin to go on with."""
        twin = self.build.emit(expr, f"{var.name}_2d")
        if len(dims_of(var)) > 2:
            self.twins[var] = twin
        self.build.bind(var, relax.op.reshape(twin, var.ty.shape))


@each_function
def lift_conv1d(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many convolutions were lifted."""
    lifted = _Lifted(mod, name)
    function = mod[name]
    count = 0
    for binding in bindings_of(function):
        value = binding.value
        if _is_line(value):
            lifted.set(binding.var, _conv2d(lifted, value))
            count += 1
        elif _is_transposed_line(value):
            lifted.set(binding.var, _conv2d_transpose(lifted, value))
            count += 1
        elif op_name(value) in ELEMENTWISE and _follows(lifted, value):
            rank = len(shape_of(value) or ())
            tensors = [lifted.get(arg, rank) for arg in value.args]
            lifted.set(binding.var, tvm.ir.Call(value.op, tensors, value.attrs, value.ty_args))
        elif is_ruled(value) and any(lifted.has(operand) for operand in operands(value)):
            lifted.set(binding.var, RULES[op_name(value)](value, lambda operand: lifted.get(operand, 3)))
        else:
            lifted.build.keep(binding)
    return lifted.build.finish(function), count


def _is_line(call: relax.Expr) -> bool:
    """Whether the value is a convolution along one axis, with constant weights and in ONNX's layout."""
    if op_name(call) not in ("relax.nn.conv1d", "relax.nn.conv2d") or not is_constant(call.args[1]):
        return False
    attrs, dims, result = call.attrs, shape_of(call.args[0]), shape_of(call)
    if dims is None or result is None or 0 in [*dims, *result]:
        return False  # of a size of 0 Relax's reshape makes "the input's size"
    if op_name(call) == "relax.nn.conv1d":
        return (attrs.data_layout, attrs.kernel_layout) == ("NCW", "OIW")
    flat = dims[3] == 1 and dims_of(call.args[1])[3] == 1 and not int(attrs.padding[1]) and not int(attrs.padding[3])
    return flat and dims[2] != 1 and (attrs.data_layout, attrs.kernel_layout) == ("NCHW", "OIHW")


def _is_transposed_line(call: relax.Expr) -> bool:
    if op_name(call) != "relax.nn.conv1d_transpose" or not is_constant(call.args[1]):
        return False
    dims, result = shape_of(call.args[0]), shape_of(call)
    known = dims is not None and result is not None and 0 not in [*dims, *result]
    return known and (call.attrs.data_layout, call.attrs.kernel_layout) == ("NCW", "IOW")


def _follows(lifted: _Lifted, call: relax.Call) -> bool:
    """Whether an operand has a twin, and every other one can have one."""
    dims = shape_of(call)
    if dims is None or not any(lifted.has(arg) for arg in call.args):
        return False
    shapes = [shape_of(arg) for arg in call.args if isinstance(arg.ty, relax.TensorType)]
    if len(shapes) != len(call.args) or None in shapes or any(0 in (shape or []) for shape in [dims, *shapes]):
        return False
    return len(dims) == 3 or (dims[-1] == 1 and all(not shape or len(shape) > 1 for shape in shapes))


def _conv2d(lifted: _Lifted, call: relax.Call) -> relax.Expr:
    attrs: Any = call.attrs
    weight = array_of(call.args[1])
    before, after = int(attrs.padding[0]), int(attrs.padding[len(attrs.padding) // 2])
    return relax.op.nn.conv2d(
        lifted.get(call.args[0], weight.ndim),
        constant(weight.reshape(*weight.shape[:2], 1, weight.shape[2])),
        strides=(1, int(attrs.strides[0])),
        padding=(0, before, 0, after),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
        out_dtype=attrs.out_dtype,
    )


def _conv2d_transpose(lifted: _Lifted, call: relax.Call) -> relax.Expr:
    attrs: Any = call.attrs
    weight = array_of(call.args[1])
    return relax.op.nn.conv2d_transpose(
        lifted.get(call.args[0], 3),
        constant(weight.reshape(*weight.shape[:2], 1, weight.shape[2])),
        strides=(1, int(attrs.strides[0])),
        padding=(0, int(attrs.padding[0]), 0, int(attrs.padding[1])),
        output_padding=(0, int(attrs.output_padding[0])),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
        out_dtype=attrs.out_dtype,
    )
