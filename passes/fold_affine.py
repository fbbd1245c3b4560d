"""Fold per-channel scales and shifts behind a convolution into its weights and one bias.

BatchNormalization at inference is ``(x - mean) / sqrt(var + eps) * gamma + beta``; exporters also write it as Mul and
Add. Any chain of add, subtract, multiply and divide by per-channel constants is ``x * s + t``: ``s`` scales the
weights' output channels, ``t`` stays as one add, which the kernel's epilogue absorbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from .bindings import BindingBuilder, bindings_of, count_uses, each_function
from .constants import array_of, as_array, constant, op_name, shape_of
from .explanations import explain

_CONVOLUTIONS = {"relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d"}
_AFFINE = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide"}


@dataclass(frozen=True)
class _Scaled:
    """A variable known to be ``conv * scale + shift`` per output channel; ``steps`` operators are absorbed."""

    conv: relax.Call
    scale: np.ndarray
    shift: np.ndarray
    steps: int


@each_function
def fold_affine(mod: tvm.IRModule, name: str) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many elementwise operators went into weights."""
    function = mod[name]
    known, absorbed = _find(function)
    build = BindingBuilder(mod, name)
    folded = 0
    for binding in bindings_of(function):
        scaled = known.get(binding.var)
        if scaled is None or not scaled.steps or binding.var in absorbed:
            build.keep(binding)
        else:
            folded += scaled.steps
            _rebuild(build, binding.var, scaled)
    return build.finish(function), folded


def _find(function: relax.Function) -> tuple[dict[relax.Var, _Scaled], set[relax.Var]]:
    """What each variable is known to be, and the variables whose only reader goes on with the chain."""
    uses = count_uses(function)
    known: dict[relax.Var, _Scaled] = {}
    absorbed: set[relax.Var] = set()
    for binding in bindings_of(function):
        value: Any = binding.value if isinstance(binding, relax.VarBinding) else None
        scaled = _start(value)
        if scaled is None and op_name(value) in _AFFINE:
            base = next((arg for arg in value.args if isinstance(arg, relax.Var) and arg in known), None)
            if base is not None:
                scaled = _extend(value, base, known[base]) if uses[base] == 1 else None
                absorbed |= {base} if scaled else set()
                _explain(value, scaled is not None, uses[base])
        if scaled is not None:
            known[binding.var] = scaled
    return known, absorbed


def _explain(value: relax.Call, applied: bool, uses: int) -> None:
    subject = f"{op_name(value).removeprefix('relax.')} behind a convolution"
    reason = "constant per output channel"
    if not applied:
        reason = "its other operand is not a constant per output channel, or divides by zero or by the result"
        reason = f"the convolution's result is read {uses} times" if uses > 1 else reason
    explain(subject, "folded into the weights", applied, reason)


def _rebuild(build: BindingBuilder, var: relax.Var, scaled: _Scaled) -> None:
    data, weight = scaled.conv.args
    array = array_of(weight)
    trailing = (1,) * (array.ndim - 1)
    scaled_weight = constant((array * scaled.scale.reshape(-1, *trailing)).astype(array.dtype))
    conv = tvm.ir.Call(scaled.conv.op, [data, scaled_weight], scaled.conv.attrs, scaled.conv.ty_args)
    bias = constant(scaled.shift.reshape(1, -1, *trailing[1:]))
    build.bind(var, relax.op.add(build.emit(conv, "conv"), bias))


def _start(value: Any) -> _Scaled | None:
    if op_name(value) not in _CONVOLUTIONS:
        return None
    weight = as_array(value.args[1])
    if weight is None or weight.dtype.kind != "f" or not value.attrs.data_layout.startswith("NC"):
        return None
    channels = weight.shape[0]
    return _Scaled(value, np.ones(channels, weight.dtype), np.zeros(channels, weight.dtype), 0)


def _extend(value: relax.Call, base: relax.Var, scaled: _Scaled) -> _Scaled | None:
    left, right = value.args
    flipped = right.same_as(base)
    factor = _per_channel(left if flipped else right, scaled)
    return None if factor is None else _apply(op_name(value), scaled, factor, flipped)


def _apply(name: str, base: _Scaled, factor: np.ndarray, flipped: bool) -> _Scaled | None:
    steps = base.steps + 1
    if name == "relax.add":
        return _Scaled(base.conv, base.scale, base.shift + factor, steps)
    if name == "relax.subtract":
        sign = -1 if flipped else 1
        return _Scaled(base.conv, base.scale * sign, (base.shift - factor) * sign, steps)
    if name == "relax.multiply":
        return _Scaled(base.conv, base.scale * factor, base.shift * factor, steps)
    if flipped or not np.all(factor):
        return None
    return _Scaled(base.conv, base.scale / factor, base.shift / factor, steps)


def _per_channel(expr: relax.Expr, base: _Scaled) -> np.ndarray | None:
    """A constant that broadcasts along the channels only, as a vector of their number."""
    array = as_array(expr)
    if array is None or array.dtype.kind != "f":
        return None
    rank, channels = len(shape_of(expr) or ()), base.scale.size
    full = len(base.conv.args[1].ty.shape.values)
    if rank > full:
        return None
    aligned = array.reshape((1,) * (full - rank) + array.shape)
    if aligned.size not in (1, channels) or (aligned.size > 1 and aligned.shape[1] != channels):
        return None
    return np.broadcast_to(aligned.reshape(-1), (channels,)).astype(base.scale.dtype)
