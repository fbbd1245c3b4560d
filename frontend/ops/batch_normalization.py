"""BatchNormalization. https://onnx.ai/onnx/operators/onnx__BatchNormalization.html

With constant parameters, the rule in inference, it is ``x * scale + shift`` with both worked out while compiling.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import Value, rank, tensor_dtype, tensor_shape
from .activation import number
from .elementwise import add, multiply, subtract
from .normalization import inverse_root, per_channel
from .precision import cast_to, widened
from .reduce import mean


@converter("BatchNormalization")
def batch_normalization(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value | list[Value]:
    data, *parameters = inputs
    epsilon = node.attr("epsilon", 1e-5)
    if node.attr("training_mode", 0):
        return _training(ctx, node, inputs)
    if node.output_count > 1 and any(node.has_output(i) for i in range(1, node.output_count)):
        raise ConversionError(
            "statistics are outputs of BatchNormalization in training only", hint="export the model for inference"
        )
    return cast_to(
        ctx,
        _normalized(ctx, widened(ctx, data), parameters, epsilon, bool(node.attr("spatial", 1))),
        tensor_dtype(data),
    )


def _normalized(ctx: Context, x: Value, parameters: Sequence[Value], epsilon: float, spatial: bool = True) -> Value:
    """(x - mean) * scale / sqrt(variance + epsilon) + bias; not spatial means a parameter per element of a sample."""
    dims = rank(x)
    if all(isinstance(parameter, np.ndarray) for parameter in parameters):
        scale, bias, average, variance = (np.asarray(parameter, np.float64) for parameter in parameters)
        factor = scale / np.sqrt(variance + epsilon)
        affine: list[Value] = [value.astype(tensor_dtype(x)) for value in (factor, bias - average * factor)]
    else:
        scale, bias, average, variance = (cast_to(ctx, ctx.tensor(p), tensor_dtype(x)) for p in parameters)
        factor = multiply(ctx, scale, inverse_root(ctx, variance, epsilon))
        affine = [factor, subtract(ctx, bias, multiply(ctx, average, factor))]
    if spatial and dims > 2:
        affine = [per_channel(ctx, value, dims) for value in affine]
    return add(ctx, multiply(ctx, x, affine[0]), affine[1])


def _training(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    """The batch's own statistics; also the running ones, moved towards them."""
    data, scale, bias, running_mean, running_variance = inputs
    x = widened(ctx, data)
    axes = [axis for axis in range(rank(data)) if axis != 1]
    average = mean(ctx, x, axes, True)
    difference = subtract(ctx, x, average)
    variance = mean(ctx, multiply(ctx, difference, difference), axes, False)
    average = ctx.tensor(ctx.reshape(average, [tensor_shape(x)[1]]))
    result = _normalized(ctx, x, [scale, bias, average, variance], node.attr("epsilon", 1e-5))
    momentum = node.attr("momentum", 0.9)
    moved = [_moved(ctx, old, new, momentum) for old, new in ((running_mean, average), (running_variance, variance))]
    return [cast_to(ctx, ctx.tensor(result), tensor_dtype(data)), *moved][: node.output_count]


def _moved(ctx: Context, old: Value, new: Value, momentum: float) -> Value:
    wide = widened(ctx, old)
    new = cast_to(ctx, ctx.tensor(new), tensor_dtype(wide))
    return cast_to(
        ctx,
        add(ctx, multiply(ctx, wide, number(momentum, wide)), multiply(ctx, new, number(1 - momentum, wide))),
        tensor_dtype(old),
    )
