"""LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization, MeanVarianceNormalization.

https://onnx.ai/onnx/operators/onnx__LayerNormalization.html and siblings. Variances are taken from the differences to
the mean, in float32 for 16-bit floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim
from ..values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape
from .activation import number
from .elementwise import add, divide, multiply, subtract
from .precision import cast_to, widened
from .reduce import mean
from .shape import normalized_axes, product


def standardized(
    ctx: Context, x: relax.Expr, axes: Sequence[int], epsilon: float
) -> tuple[relax.Expr, relax.Expr, relax.Expr]:
    """((x - mean) / sqrt(variance + epsilon), mean, 1 / sqrt(variance + epsilon)); the last two keep ``axes`` as 1."""
    average = mean(ctx, x, axes, True)
    difference = subtract(ctx, x, average)
    variance = mean(ctx, multiply(ctx, difference, difference), axes, True)
    inverse = inverse_root(ctx, variance, epsilon)
    return multiply(ctx, difference, inverse), average, inverse


def inverse_root(ctx: Context, variance: relax.Expr, epsilon: float) -> relax.Expr:
    root = ctx.emit(relax.op.sqrt(add(ctx, variance, number(epsilon, variance))))
    return divide(ctx, number(1, root), root)


def _affine(ctx: Context, x: relax.Expr, scale: Value | None, bias: Value | None) -> relax.Expr:
    if scale is not None:
        x = multiply(ctx, x, cast_to(ctx, ctx.tensor(scale), tensor_dtype(x)))
    return x if bias is None else add(ctx, x, cast_to(ctx, ctx.tensor(bias), tensor_dtype(x)))


def _fits(ctx: Context, parameter: Value | None, dims: Sequence[PrimExpr]) -> bool:
    """Whether a parameter is a constant or tensor of exactly the normalised dims, all of known size."""
    if parameter is None:
        return all(as_int(dim) is not None for dim in dims)
    own = tensor_shape(parameter)
    return len(own) == len(dims) and all(ctx.equal(a, b) for a, b in zip(own, dims, strict=True))


@converter("LayerNormalization")
def layer_normalization(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value | list[Value]:
    data, scale, bias = [*inputs, None][:3]
    assert data is not None and scale is not None
    dtype, dims = tensor_dtype(data), tensor_shape(data)
    (axis,) = normalized_axes([node.attr("axis", -1)], len(dims))
    axes, epsilon = list(range(axis, len(dims))), node.attr("epsilon", 1e-5)
    if not (node.has_output(1) or node.has_output(2)):
        return normalized(ctx, data, scale, bias, axis, epsilon)
    normal, average, inverse = standardized(ctx, widened(ctx, data), axes, epsilon)
    result = cast_to(ctx, _affine(ctx, normal, scale, bias), dtype)
    # The statistics have stash_type's dtype, which is float32 in all that exporters write.
    statistics = [cast_to(ctx, value, "float32") for value in (average, inverse)]
    return [result, *statistics][: node.output_count]


def normalized(ctx: Context, data: Value, scale: Value, bias: Value | None, axis: int, epsilon: float) -> relax.Expr:
    """LayerNormalization of the dims from ``axis`` on: as the operator that a template knows, where it can be."""
    dtype, dims = tensor_dtype(data), tensor_shape(data)
    axes = list(range(axis, len(dims)))
    plain = dtype == "float32" and not never_has_elements(dims[axis:])
    if plain and _fits(ctx, scale, dims[axis:]) and _fits(ctx, bias, dims[axis:]):
        shift = np.zeros([int(dim) for dim in dims[axis:]], dtype) if bias is None else bias
        return ctx.emit(relax.op.nn.layer_norm(ctx.tensor(data), ctx.tensor(scale), ctx.tensor(shift), axes, epsilon))
    normal, _, _ = standardized(ctx, widened(ctx, data), axes, epsilon)
    return cast_to(ctx, _affine(ctx, normal, scale, bias), dtype)


@converter("RMSNormalization", since=23)
def rms_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, scale = inputs
    (axis,) = normalized_axes([node.attr("axis", -1)], rank(data))
    result = root_mean_square_normalized(ctx, data, scale, axis, node.attr("epsilon", 1e-5))
    return cast_to(ctx, result, tensor_dtype(scale))


def root_mean_square_normalized(ctx: Context, data: Value, scale: Value, axis: int, epsilon: float) -> relax.Expr:
    """x / sqrt(mean(x^2) + epsilon) * scale over the dims from ``axis`` on."""
    dtype, dims = tensor_dtype(data), tensor_shape(data)
    axes = list(range(axis, len(dims)))
    plain = dtype == tensor_dtype(scale) == "float32" and axis > 0 and not never_has_elements(dims[axis:])
    if plain and _fits(ctx, scale, dims[axis:]):
        return ctx.emit(relax.op.nn.rms_norm(ctx.tensor(data), ctx.tensor(scale), axes, epsilon))
    x = widened(ctx, data)
    normal = multiply(ctx, x, inverse_root(ctx, mean(ctx, multiply(ctx, x, x), axes, True), epsilon))
    return _affine(ctx, cast_to(ctx, normal, dtype), cast_to(ctx, ctx.tensor(scale), dtype), None)


def per_channel(ctx: Context, parameter: Value, dims: int) -> Value:
    """A vector over the channels (axis 1) in a shape that broadcasts to a tensor of ``dims`` dims."""
    return ctx.reshape(parameter, [*tensor_shape(parameter), *([1] * (dims - 2))])


@converter("InstanceNormalization")
def instance_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    data, scale, bias = inputs
    dims = rank(data)
    normal, _, _ = standardized(ctx, widened(ctx, data), list(range(2, dims)), node.attr("epsilon", 1e-5))
    return cast_to(
        ctx, _affine(ctx, normal, per_channel(ctx, scale, dims), per_channel(ctx, bias, dims)), tensor_dtype(data)
    )


@converter("GroupNormalization", since=21)
def group_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Opset 18's definition, with a scale per group, is deprecated: the checker refuses it."""
    data, scale, bias = inputs
    dims, groups = list(tensor_shape(data)), node.attr("num_groups")
    dims[1] = same_dim(ctx, [dims[1], *(tensor_shape(vector)[0] for vector in (scale, bias))], "numbers of channels")
    channels = as_int(dims[1])
    if channels is None or channels % groups:
        raise ConversionError(f"{dims[1]} channels can't be split into {groups} groups")
    grouped = ctx.reshape(widened(ctx, data), [dims[0], groups, ctx.simplify(product(dims[2:]) * (channels // groups))])
    normal, _, _ = standardized(ctx, ctx.tensor(grouped), [2], node.attr("epsilon", 1e-5))
    shaped = ctx.tensor(ctx.reshape(normal, dims))
    return cast_to(
        ctx,
        _affine(ctx, shaped, per_channel(ctx, scale, len(dims)), per_channel(ctx, bias, len(dims))),
        tensor_dtype(data),
    )


@converter("MeanVarianceNormalization", since=9)
def mean_variance_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    axes = normalized_axes(node.attr("axes", [0, 2, 3]), rank(inputs[0]))
    x = widened(ctx, inputs[0])
    difference = subtract(ctx, x, mean(ctx, x, axes, True))
    deviation = ctx.emit(relax.op.sqrt(mean(ctx, multiply(ctx, difference, difference), axes, True)))
    return cast_to(ctx, divide(ctx, difference, add(ctx, deviation, number(1e-9, x))), tensor_dtype(inputs[0]))
