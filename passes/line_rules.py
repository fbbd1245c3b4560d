"""What operators over one axis become over two of which the first is 1: those that convolutions stand between.

``rest`` gives the twins of operands; axis 2, along which the values lie, is axis 3 there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from .constants import op_name, shape_of
from .layout_rules import with_attributes

Twin = Callable[[relax.Expr], relax.Expr]
Rule = Callable[[relax.Call, Twin], relax.Expr]

AXES = (0, 1, 3)
"""Where the axes of [N, C, W] are in [N, C, 1, W]."""


def operands(call: relax.Call) -> list[relax.Expr]:
    """The tensors that an operator with a rule reads."""
    first = call.args[0]
    return list(first.fields) if isinstance(first, relax.Tuple) else [first]


def is_ruled(call: relax.Expr) -> bool:
    """Whether there is a rule, and what is read and given is known to be [N, C, W] with elements."""
    if op_name(call) not in RULES or (op_name(call) in REDUCTIONS and call.attrs.axis is None):
        return False
    if "pool" in op_name(call) and call.attrs.layout != "NCW":
        return False
    shapes = [shape_of(operand) for operand in operands(call)] + [shape_of(call)]
    known = all(shape is not None and 0 not in shape for shape in shapes)
    return known and all(len(shape or ()) == 3 for shape in shapes[:-1])


def _concat(call: relax.Call, twin: Twin) -> relax.Expr:
    return relax.op.concat([twin(operand) for operand in operands(call)], AXES[int(call.attrs.axis) % 3])


def _pad(call: relax.Call, twin: Twin) -> relax.Expr:
    widths = [int(width) for width in call.attrs.pad_width]
    return with_attributes(call, [twin(call.args[0])], pad_width=[*widths[:4], 0, 0, *widths[4:]])


def _strided_slice(call: relax.Call, twin: Twin) -> relax.Expr:
    data, axes, *rest = call.args
    moved = [AXES[int(axis.value) % 3] for axis in axes.fields]
    return relax.op.strided_slice(twin(data), moved, *rest, assume_inbound=bool(call.attrs.assume_inbound))


def _pool(call: relax.Call, twin: Twin) -> relax.Expr:
    a: Any = call.attrs
    pool = getattr(relax.op.nn, op_name(call).removeprefix("relax.nn.").replace("1d", "2d"))
    (size,), (stride,), (dilation,), (before, after) = a.pool_size, a.strides, a.dilation, a.padding
    window = ((1, int(size)), (1, int(stride)), (0, int(before), 0, int(after)), (1, int(dilation)))
    return pool(twin(call.args[0]), *window, a.ceil_mode, a.count_include_pad)


def _reduction(call: relax.Call, twin: Twin) -> relax.Expr:
    """Reduced axes are kept, as 1: without them there is nothing to lift."""
    reduce = getattr(relax.op, op_name(call).removeprefix("relax."))
    return reduce(twin(call.args[0]), [AXES[int(axis) % 3] for axis in call.attrs.axis], True)


def _softmax(call: relax.Call, twin: Twin) -> relax.Expr:
    return with_attributes(call, [twin(call.args[0])], axis=AXES[int(call.attrs.axis) % 3])


REDUCTIONS = tuple(f"relax.{name}" for name in ("mean", "sum", "max", "min", "prod"))
RULES: dict[str, Rule] = {
    "relax.concat": _concat,
    "relax.nn.pad": _pad,
    "relax.strided_slice": _strided_slice,
    "relax.nn.softmax": _softmax,
    "relax.nn.log_softmax": _softmax,
    "relax.nn.max_pool1d": _pool,
    "relax.nn.avg_pool1d": _pool,
    **dict.fromkeys(REDUCTIONS, _reduction),
}
