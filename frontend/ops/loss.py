"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html and sibling. 16-bit floats are summed up in float32.
Classes that don't exist are read as the nearest that does, unless they are the one to ignore.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..values import PrimExpr, Value, rank, tensor_dtype, tensor_shape
from .elementwise import divide
from .gather import inside
from .precision import cast_to, widened
from .reduce import mean, total


@converter("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, target, weight = [*inputs, None][:3]
    assert data is not None and target is not None
    return cast_to(ctx, _loss(ctx, node, widened(ctx, data), target, weight), tensor_dtype(data))


@converter("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    scores, labels, weight = [*inputs, None][:3]
    assert scores is not None and labels is not None
    logarithms = ctx.emit(relax.op.nn.log_softmax(widened(ctx, scores), 1))
    loss = _loss(ctx, node, logarithms, labels, weight)
    return [cast_to(ctx, value, tensor_dtype(scores)) for value in (loss, logarithms)][: node.output_count]


def _loss(ctx: Context, node: Node, x: relax.Expr, target: Value, weight: Value | None) -> relax.Expr:
    """x: [N, C, d...] (float32 or float64); target: [N, d...]; weight: [C]. The loss in x's dtype."""
    dims, dtype, ignored = tensor_shape(x), tensor_dtype(x), node.attr("ignore_index")
    if len(dims) < 2 or rank(target) != len(dims) - 1:
        raise ConversionError(f"needs targets of one dim less than the input, found ranks {len(dims)}, {rank(target)}")
    for own, other in zip([dims[0], *dims[2:]], tensor_shape(target), strict=True):
        same_dim(ctx, [own, other], "the dims of input and target")
    ctx.check(prim(dims[1]) > 0)

    def is_ignored(place: PrimExpr) -> PrimExpr:
        return tirx.const(False) if ignored is None else place.astype("int64") == prim(ignored)

    def class_weights(target: te.Tensor, weights: list[te.Tensor]) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            place, one = target(*i), tirx.const(1, dtype)
            factor = weights[0](inside(place, weights[0].shape[0])).astype(dtype) if weights else one
            return tirx.Select(is_ignored(place), tirx.const(0, dtype), factor)

        return te.compute(target.shape, element, name="class_weights")

    def losses(x: te.Tensor, target: te.Tensor, weights: te.Tensor) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            value = x(i[0], inside(target(*i), x.shape[1]), *i[1:]) * weights(*i)
            return tirx.Select(is_ignored(target(*i)), tirx.const(0, dtype), -value)

        return te.compute(target.shape, element, name="losses")

    if weight is not None:
        same_dim(ctx, [tensor_shape(weight)[0], dims[1]], "the numbers of weights and of classes")
    factors = ctx.te(class_weights, ctx.tensor(target), [] if weight is None else [ctx.tensor(weight)])
    each = ctx.te(losses, x, ctx.tensor(target), factors)
    reduction, axes = node.attr("reduction", "mean"), list(range(rank(target)))
    if reduction == "none":
        return each
    if reduction == "sum":
        return total(ctx, each, axes, False)
    if reduction != "mean":
        raise ConversionError(f"reduction {reduction!r} is none of none, sum, mean")
    if weight is None and ignored is None:
        return mean(ctx, each, axes, False)
    return divide(ctx, total(ctx, each, axes, False), total(ctx, factors, axes, False))
