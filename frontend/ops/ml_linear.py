"""ai.onnx.ml's LinearRegressor and LinearClassifier: https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html.

Classes must be numbers. One row of coefficients for two classes is taken where it says the same to all runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, as_int, tensor_dtype, tensor_shape
from .activation import number
from .arg_reduce import arg_reduce
from .cast import convert_dtype
from .concat import join
from .elementwise import add, subtract
from .matmul import matmul
from .ml_post_transform import post_transform

DOMAIN = "ai.onnx.ml"


@converter("LinearRegressor", domain=DOMAIN)
def linear_regressor(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    scores = _scores(ctx, node, inputs[0], node.attr("targets", 1))
    return convert_dtype(ctx, post_transform(ctx, scores, node.attr("post_transform", "NONE")), "float32")


@converter("LinearClassifier", domain=DOMAIN)
def linear_classifier(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    numbers, transform = class_numbers(node, "classlabels_ints"), node.attr("post_transform", "NONE")
    scores = _scores(ctx, node, inputs[0], None)
    rows = as_int(tensor_shape(scores)[1])
    if rows == 1 and len(numbers) == 2 and transform == "LOGISTIC":
        scores = ctx.tensor(join(ctx, [subtract(ctx, number(0, scores), scores), scores], 1))
    elif rows != len(numbers):
        raise ConversionError(
            f"{rows} rows of coefficients for {len(numbers)} classes with {transform} mean different things to "
            "different runtimes; one row for each class is needed, or LOGISTIC with one row for two"
        )
    chosen = class_labels(ctx, scores, numbers)
    result = convert_dtype(ctx, post_transform(ctx, scores, transform), "float32")
    return [chosen, result][: node.output_count]


def class_numbers(node: Node, attribute: str) -> list[int]:
    """The classes' numbers; a refusal of classes that have names."""
    numbers = node.attr(attribute)
    if not numbers:
        raise ConversionError(f"classes must be numbers ({attribute}); names, which are strings, are not supported")
    return [int(value) for value in numbers]


def class_labels(ctx: Context, scores: relax.Expr, numbers: Sequence[int]) -> relax.Expr:
    """The number of the class with the largest of scores [N, classes], the first of equal ones."""
    places = arg_reduce(ctx, scores, 1, keepdims=False)

    def pick(table: te.Tensor, places: te.Tensor) -> te.Tensor:
        def element(i: tirx.Var) -> PrimExpr:
            return table(tirx.max(tirx.min(places(i), table.shape[0] - 1), tirx.const(0, "int64")))

        return te.compute(places.shape, element, name="class_labels")

    return ctx.te(pick, np.array(numbers, np.int64), places, name="class_labels")


def floats(ctx: Context, value: Value) -> relax.Expr:
    """Any numbers as float32, float64 as it is."""
    dtype = tensor_dtype(value)
    return ctx.tensor(value if dtype == "float64" else convert_dtype(ctx, value, "float32"))


def _scores(ctx: Context, node: Node, data: Value, rows: int | None) -> relax.Expr:
    x = floats(ctx, data)
    if len(tensor_shape(x)) == 1:
        x = ctx.tensor(ctx.reshape(x, [1, *tensor_shape(x)]))
    features = as_int(tensor_shape(x)[-1])
    weights = np.array(node.attr("coefficients"), np.float32).astype(tensor_dtype(x))
    if features is None:
        features = weights.size // rows if rows else None
    if not features or weights.size % features or (rows and weights.size != rows * features):
        raise ConversionError(f"{weights.size} coefficients for {features} features and {rows or 'any'} rows")
    result = matmul(ctx, x, np.ascontiguousarray(weights.reshape(-1, features).T))
    shift = node.attr("intercepts")
    return add(ctx, result, np.array(shift, np.float32).astype(weights.dtype)) if shift else result
