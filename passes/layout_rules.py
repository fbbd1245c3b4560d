"""How each operator goes channels-last: one small rule per kind of operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax

from .constants import as_int, dims_of, is_constant, op_name, shape_of
from .permute_primfunc import permute_primfunc
from .unfold_conv3d import unfold_conv3d

if TYPE_CHECKING:
    from .convert_layout import Layouts

ELEMENTWISE = {
    f"relax.{name}"
    for name in (
        "add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "where", "mod", "floor_mod",
        "nn.relu", "nn.relu6", "nn.leakyrelu", "nn.gelu", "nn.gelu_tanh", "nn.silu", "nn.softplus", "nn.selu",
        "sigmoid", "tanh", "exp", "erf", "sqrt", "rsqrt", "abs", "negative", "log", "floor", "ceil", "round", "sign",
        "clip", "astype", "square", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
        "logical_and", "logical_or", "logical_not", "isnan", "isinf", "cos", "sin",
    )
}  # fmt: skip
"""Operators that compute each element from the elements at its place, broadcast included."""

LAYOUTS = {4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}


@dataclass(frozen=True)
class Result:
    """``expr`` computes the value channels-last, or in ONNX's order from channels-last operands."""

    expr: relax.Expr
    channels_last: bool = True


def to_last(rank: int) -> list[int]:
    """The permutation from (N, C, spatial...) to (N, spatial..., C)."""
    return [0, *range(2, rank), 1]


def to_first(rank: int) -> list[int]:
    """The permutation from (N, spatial..., C) to (N, C, spatial...)."""
    return [0, rank - 1, *range(1, rank - 1)]


def axis_to_last(axis: int, rank: int) -> int:
    """Where ONNX's axis lies in the channels-last tensor."""
    return to_last(rank).index(axis % rank)


def rank_of(expr: relax.Expr) -> int:
    shape = shape_of(expr)
    return -1 if shape is None else len(shape)


def with_attributes(call: relax.Call, args: Sequence[relax.Expr], **changed: Any) -> relax.Call:
    """The call of other arguments, with those of its attributes that are given changed."""
    attrs = call.attrs
    if changed:
        names = [field.name for field in attrs.__class__.__tvm_ffi_type_info__.fields]
        values = {name: getattr(attrs, name) for name in names} | changed
        attrs = tvm.ir.make_node(attrs.__class__.__tvm_ffi_type_info__.type_key, **values)
    return tvm.ir.Call(call.op, list(args), attrs, call.ty_args)


def _conv2d(layouts: Layouts, call: relax.Call) -> Result | None:
    data, weight = call.args
    if not is_constant(weight) or call.attrs.data_layout != "NCHW":
        return None
    moved = layouts.get(data, 4)
    if moved is None:
        return None
    a = call.attrs
    window = (a.strides, a.padding, a.dilation, a.groups)
    return Result(relax.op.nn.conv2d(moved, weight, *window, "NHWC", "OIHW", "NHWC", a.out_dtype))


def _conv3d(layouts: Layouts, call: relax.Call) -> Result | None:
    unfolded = unfold_conv3d(layouts, call)
    return None if unfolded is None else Result(unfolded)


def _conv2d_transpose(layouts: Layouts, call: relax.Call) -> Result | None:
    """Only follows: its kernel is generic so far, and works on either order."""
    return None


def _follows(layouts: Layouts, operands: Sequence[relax.Expr], rank: int) -> list[relax.Expr] | None:
    """The operands channels-last when the largest that is computed already is, and all others can be."""
    if not any(layouts.is_last(operand) and rank_of(operand) == rank for operand in operands):
        return None
    if any(isinstance(o, relax.Var) and rank_of(o) not in (0, rank) for o in operands):
        return None
    moved = [layouts.get(operand, rank) for operand in operands]
    return None if any(item is None for item in moved) else [item for item in moved if item is not None]


def _elementwise(layouts: Layouts, call: relax.Call) -> Result | None:
    tensors = [arg for arg in call.args if isinstance(arg.ty, relax.TensorType)]
    rank = max(rank_of(arg) for arg in tensors)
    if rank not in LAYOUTS:
        return None
    moved = _follows(layouts, tensors, rank)
    if moved is None:
        return None
    rest = [arg for arg in call.args if not isinstance(arg.ty, relax.TensorType)]
    return Result(with_attributes(call, [*moved, *rest]))


def _pool(layouts: Layouts, call: relax.Call) -> Result | None:
    (data,) = call.args
    rank = rank_of(data)
    if rank not in LAYOUTS or not layouts.is_last(data) or call.attrs.layout != LAYOUTS[rank][0]:
        return None
    pool = getattr(relax.op.nn, op_name(call).removeprefix("relax.nn."))
    a = call.attrs
    last = LAYOUTS[rank][1]
    if "adaptive" in op_name(call):
        return Result(pool(layouts.last[data], a.output_size, last, last))
    args = [a.pool_size, a.strides, a.padding, a.dilation, a.ceil_mode, a.count_include_pad, last, last]
    return Result(pool(layouts.last[data], *args))


def _reduction(layouts: Layouts, call: relax.Call) -> Result | None:
    data = call.args[0]
    rank = rank_of(data)
    if rank not in LAYOUTS or not layouts.is_last(data) or call.attrs.axis is None:
        return None
    axes = sorted(int(axis) % rank for axis in call.attrs.axis)
    reduce = getattr(relax.op, op_name(call).removeprefix("relax."))
    moved = sorted(axis_to_last(axis, rank) for axis in axes)
    if call.attrs.keepdims:
        return Result(reduce(layouts.last[data], moved, True))
    kept = [axis for axis in to_last(rank) if axis not in axes]
    return Result(reduce(layouts.last[data], moved, False), channels_last=False) if kept == sorted(kept) else None


def _concat(layouts: Layouts, call: relax.Call) -> Result | None:
    operands = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
    rank = rank_of(operands[0]) if operands else -1
    moved = _follows(layouts, operands, rank) if rank in LAYOUTS else None
    return None if moved is None else Result(relax.op.concat(moved, axis_to_last(int(call.attrs.axis), rank)))


def _pad(layouts: Layouts, call: relax.Call) -> Result | None:
    (data,) = call.args
    rank = rank_of(data)
    if rank not in LAYOUTS or not layouts.is_last(data):
        return None
    widths = list(call.attrs.pad_width)
    moved = [int(width) for axis in to_last(rank) for width in widths[2 * axis : 2 * axis + 2]]
    return Result(with_attributes(call, [layouts.last[data]], pad_width=moved))


def _strided_slice(layouts: Layouts, call: relax.Call) -> Result | None:
    data, axes = call.args[0], call.args[1]
    rank = rank_of(data)
    if rank not in LAYOUTS or not layouts.is_last(data) or not isinstance(axes, relax.Tuple):
        return None
    moved = [axis_to_last(int(axis.value), rank) for axis in axes.fields]
    begins, ends, *strides = call.args[2:]
    inbound = bool(call.attrs.assume_inbound)
    sliced = relax.op.strided_slice(layouts.last[data], moved, begins, ends, *strides, assume_inbound=inbound)
    return Result(sliced)


def _permute_dims(layouts: Layouts, call: relax.Call) -> Result | None:
    """A transpose of a channels-last value is another transpose of its twin, or nothing at all."""
    (data,) = call.args
    rank = rank_of(data)
    if not layouts.is_last(data) or rank not in LAYOUTS:
        return None
    axes = [int(a) for a in call.attrs.axes] if call.attrs.axes is not None else list(reversed(range(rank)))
    moved = [axis_to_last(axis, rank) for axis in axes]
    twin = layouts.last[data]
    return Result(twin if moved == list(range(rank)) else relax.op.permute_dims(twin, moved), channels_last=False)


def _reshape(layouts: Layouts, call: relax.Call) -> Result | None:
    """Where all spatial dims are 1 both orders are the same memory."""
    data = call.args[0]
    rank = rank_of(data)
    if rank not in LAYOUTS or not layouts.is_last(data):
        return None
    if any(as_int(dim) != 1 for dim in dims_of(data)[2:]):
        return None
    return Result(relax.op.reshape(layouts.last[data], call.args[1]), channels_last=False)


def _softmax(layouts: Layouts, call: relax.Call) -> Result | None:
    (data,) = call.args
    if not layouts.is_last(data) or rank_of(data) not in LAYOUTS:
        return None
    axis = axis_to_last(int(call.attrs.axis), rank_of(data))
    return Result(getattr(relax.op.nn, op_name(call).removeprefix("relax.nn."))(layouts.last[data], axis))


def _resize(layouts: Layouts, call: relax.Call) -> Result | None:
    data = call.args[0]
    if not layouts.is_last(data) or call.attrs.layout != "NCHW":
        return None
    return Result(with_attributes(call, [layouts.last[data], *call.args[1:]], layout="NHWC"))


def _call_tir(layouts: Layouts, call: relax.Call) -> Result | None:
    """Any kernel follows by permuting its buffers: what it computes for each element stays the same."""
    rank = rank_of(call)
    operands = list(call.args[1].fields)
    tensors = [operand for operand in operands if isinstance(operand.ty, relax.TensorType)]
    if rank not in LAYOUTS or not any(layouts.is_last(o) and rank_of(o) == rank for o in tensors):
        return None
    full = [rank_of(tensor) == rank for tensor in tensors]
    function = permute_primfunc(layouts.build.builder.get()[call.args[0]], [*full, True], to_last(rank))
    if function is None:
        return None
    moved = [layouts.get(o, rank) if isinstance(o.ty, relax.TensorType) and rank_of(o) == rank else o for o in operands]
    if any(item is None for item in moved):
        return None
    gv = layouts.build.add_func(function, f"{call.args[0].name_hint}_last")
    shape = [call.ty.shape.values[axis] for axis in to_last(rank)]
    return Result(relax.call_tir(gv, relax.Tuple(moved), relax.TensorType(shape, call.ty.dtype)))


Rule = Callable[["Layouts", relax.Call], Result | None]
RULES: dict[str, Rule] = {
    "relax.nn.conv2d": _conv2d,
    "relax.nn.conv3d": _conv3d,
    "relax.concat": _concat,
    "relax.nn.pad": _pad,
    "relax.strided_slice": _strided_slice,
    "relax.permute_dims": _permute_dims,
    "relax.reshape": _reshape,
    "relax.nn.softmax": _softmax,
    "relax.nn.log_softmax": _softmax,
    "relax.image.resize2d": _resize,
    "relax.call_tir": _call_tir,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **{f"relax.nn.{kind}_pool{n}d": _pool for kind in ("max", "avg", "adaptive_avg") for n in (2, 3)},
    **{f"relax.{name}": _reduction for name in ("mean", "sum", "max", "min", "prod")},
}
