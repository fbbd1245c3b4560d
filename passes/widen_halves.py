"""Convolutions and matrix products over 16-bit floats as ones over float32, whose kernels then serve them.

Sums were kept in float32 before, so results stay what they were: every product of two 16-bit floats is exact in
float32. Constant weights are widened here and now, which doubles them; what is computed is widened by a pass over it,
and rounded back in the kernel's epilogue. Processors without arithmetic on 16-bit floats would do no less.
"""

from __future__ import annotations

import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, each_function
from .constants import as_array, constant, dtype_of, op_name
from .explanations import explain

_HALVES = {"float16", "bfloat16"}
_KERNELS = {"relax.matmul", "relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d"}


@each_function
def widen_halves(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many operators compute in float32 now."""
    function = mod[name]
    build = BindingBuilder(mod, name)
    wide: dict[relax.Expr, relax.Expr] = {}
    widened = 0
    for binding in bindings_of(function):
        call = binding.value
        if not isinstance(binding, relax.VarBinding) or op_name(call) not in _KERNELS or not _is_half(call):
            build.keep(binding)
            continue
        widened += 1
        explain(op_name(call).removeprefix("relax."), "float32", True, f"its operands are {dtype_of(call.args[0])}")
        operands = [converted(build, wide, arg, "float32") for arg in call.args]
        result = tvm.ir.Call(call.op, operands, call.attrs, call.ty_args)
        if call.attrs.out_dtype != "float32":
            result = relax.op.astype(build.emit(in_float32(call, operands)), dtype_of(binding.var))
        build.bind(binding.var, result)
    return build.finish(function), widened


def _is_half(call: relax.Call) -> bool:
    return all(isinstance(arg.ty, relax.TensorType) and dtype_of(arg) in _HALVES for arg in call.args)


def converted(build: BindingBuilder, made: dict[relax.Expr, relax.Expr], operand: relax.Expr, dtype: str) -> relax.Expr:
    """The operand in another type: constants now, anything else once, which ``made`` remembers."""
    array = as_array(operand)
    if array is not None:
        return constant(array.astype(dtype))
    if operand not in made:
        made[operand] = build.emit(relax.op.astype(operand, dtype), dtype)
    return made[operand]


def in_float32(call: relax.Call, operands: list[relax.Expr]) -> relax.Call:
    """The call with sums in float32, where it had asked for 16-bit ones."""
    if op_name(call) == "relax.matmul":
        return relax.op.matmul(*operands, "float32")
    a = call.attrs
    layouts = (a.data_layout, a.kernel_layout, a.out_layout)
    convolve = getattr(relax.op.nn, op_name(call).rpartition(".")[2])
    return convolve(*operands, a.strides, a.padding, a.dilation, a.groups, *layouts, "float32")
