"""ai.onnx.ml's operators on features, for numbers: https://onnx.ai/onnx/operators/#ai-onnx-ml.

ArrayFeatureExtractor, Binarizer, FeatureVectorizer, Imputer, LabelEncoder, Normalizer, OneHotEncoder, Scaler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape
from .activation import number
from .cast import convert_dtype
from .concat import join
from .elementwise import divide, is_integer, is_nan, maximum, multiply, subtract
from .gather import inside, known_indices, refuse_empty
from .ml_linear import DOMAIN, floats
from .pad import Border, pad
from .precision import cast_to
from .reduce import l1, l2, largest
from .shape import product
from .slice import Cut, take_cuts
from .unary import map_elements


@converter("ArrayFeatureExtractor", domain=DOMAIN)
def array_feature_extractor(ctx: Context, _node: Node, inputs: Sequence[Value]) -> Value:
    """Elements of the last dim; a vector gives one row."""
    data, indices = inputs
    dims = tensor_shape(data)
    data = data if len(dims) > 1 else ctx.reshape(data, [1, *dims])
    known_indices(indices, dims[-1])
    count = ctx.simplify(product(tensor_shape(indices)))
    refuse_empty(ctx, dims[-1], [count])
    places = ctx.reshape(indices, [count])

    def take(x: te.Tensor, places: te.Tensor) -> te.Tensor:
        shape = [*x.shape[:-1], places.shape[0]]
        return te.compute(prim_list(shape), lambda *i: x(*i[:-1], inside(places(i[-1]), x.shape[-1])), name="extract")

    return ctx.te(take, data, places, name="extract")


@converter("Binarizer", domain=DOMAIN)
def binarizer(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    dtype, limit = tensor_dtype(inputs[0]), node.attr("threshold", 0.0)
    wide = "float32" if dtype == "float32" else "float64"  # integers are compared as they are, the threshold too

    def scalar(x: PrimExpr) -> PrimExpr:
        above = x.astype(wide) > tirx.const(limit, wide)
        return tirx.Select(above, tirx.const(1, dtype), tirx.const(0, dtype))

    return map_elements(ctx, inputs[0], scalar, "binarizer")


@converter("FeatureVectorizer", domain=DOMAIN)
def feature_vectorizer(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Columns side by side, each input cut or filled up with zeros to the width that is given for it."""
    widths = node.attr("inputdimensions", [])
    if len(widths) != len(inputs):
        raise ConversionError(f"{len(widths)} inputdimensions for {len(inputs)} inputs")
    parts = []
    for value, width in zip(inputs, widths, strict=True):
        dims = tensor_shape(value)
        value = value if len(dims) > 1 else ctx.reshape(value, [*dims, 1])
        own = as_int(tensor_shape(value)[1])
        if rank(value) != 2 or own is None:
            raise ConversionError(f"inputs must be matrices of known width, found shape {list(dims)}")
        value = take_cuts(ctx, convert_dtype(ctx, value, "float32"), {1: Cut(0, min(own, width), 1)})
        parts.append(pad(ctx, value, {1: Border(0, max(width - own, 0))}))
    return join(ctx, parts, 1)


@converter("Imputer", domain=DOMAIN)
def imputer(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Elements equal to ``replaced_value`` (NaN equals NaN) become what is given for their column, or for all."""
    dtype, dims = tensor_dtype(inputs[0]), tensor_shape(inputs[0])
    kind = "int64" if is_integer(dtype) else "float"
    given = node.attr(f"imputed_value_{kind}s")
    replaced = node.attr(f"replaced_value_{kind}", 0)
    width = as_int(dims[-1]) if dims else None
    if not given or (len(given) != 1 and len(given) != width):
        raise ConversionError(f"{len(given or [])} imputed values for {width} features")
    seeks_nan = kind == "float" and bool(np.isnan(replaced))

    def kernel(x: te.Tensor, fills: te.Tensor) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            value = x(*i)
            missing = is_nan(value) if seeks_nan else tirx.EQ(value, tirx.const(replaced, dtype))
            return tirx.Select(missing, fills(i[-1] if len(given) > 1 else prim(0)), value)

        return te.compute(x.shape, element, name="imputer")

    return ctx.te(kernel, inputs[0], np.array(given).astype(dtype), name="imputer")


@converter("LabelEncoder", since=2, domain=DOMAIN)
def label_encoder(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """The value of the first key that equals the element (NaN equals NaN), else the default."""
    keys, values, default = _table(node)
    data = convert_dtype(ctx, inputs[0], keys.dtype.name)
    flat = ctx.reshape(data, [ctx.simplify(product(tensor_shape(data)))])
    if never_has_elements(tensor_shape(flat)):
        return zeros(ctx, tensor_shape(data), values.dtype.name)

    def kernel(x: te.Tensor, keys: te.Tensor, values: te.Tensor) -> te.Tensor:
        k, count = te.reduce_axis((prim(0), keys.shape[0]), "k"), prim(keys.shape[0])

        def place(i: tirx.Var) -> PrimExpr:
            same = tirx.Or(tirx.EQ(keys(k), x(i)), tirx.And(is_nan(keys(k)), is_nan(x(i))))
            return te.min(tirx.Select(same, k.var, count), axis=[k])

        found = te.compute(x.shape, place, name="label_places")

        def label(i: tirx.Var) -> PrimExpr:
            value = values(tirx.max(tirx.min(found(i), count - 1), prim(0)))
            return tirx.Select(found(i) < count, value, tirx.const(default.item(), values.dtype))

        return te.compute(x.shape, label, name="labels")

    return ctx.reshape(ctx.te(kernel, flat, keys, values, name="labels"), tensor_shape(data))


def _table(node: Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys, values, default; a refusal of strings."""
    if any(node.attr(f"{side}_strings") for side in ("keys", "values")) or node.attr("classes_strings"):
        raise ConversionError("labels that are strings are not supported")

    def array(side: str) -> np.ndarray:
        for kind, dtype in (("int64s", np.int64), ("floats", np.float32), ("tensor", None)):
            given: Any = node.attr(f"{side}_{kind}")
            if given is not None:
                return np.asarray(given, dtype).reshape(-1)
        raise ConversionError(f"the node has no {side}")

    keys, values = array("keys"), array("values")
    if keys.dtype.kind not in "fi" or values.dtype.kind not in "fi" or len(keys) != len(values) or not len(keys):
        raise ConversionError(f"{len(keys)} keys of {keys.dtype} for {len(values)} values of {values.dtype}")
    default = node.attr("default_tensor")
    if default is None:
        default = node.attr("default_int64", -1) if values.dtype.kind == "i" else node.attr("default_float", -0.0)
    return keys, values, np.asarray(default, values.dtype).reshape(())


@converter("Normalizer", domain=DOMAIN)
def normalizer(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Rows divided by their norm; a row of zeros stays."""
    name, x = node.attr("norm", "MAX"), floats(ctx, inputs[0])
    if name not in ("MAX", "L1", "L2") or rank(x) not in (1, 2):
        raise ConversionError(f"norm {name!r} of a tensor of rank {rank(x)}")
    axis = [rank(x) - 1]
    if name == "MAX":
        size = largest(ctx, ctx.emit(relax.op.abs(x)), axis, True)
    else:
        size = (l1 if name == "L1" else l2)(ctx, x, axis, True)
    return cast_to(ctx, divide(ctx, x, maximum(ctx, number(1e-30, x), size)), "float32")


@converter("OneHotEncoder", domain=DOMAIN)
def one_hot_encoder(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """One more dim, 1 at the category. Without ``zeros`` the run fails for an element that is no category."""
    if node.attr("cats_strings") or not node.attr("cats_int64s"):
        raise ConversionError("categories must be numbers (cats_int64s); strings are not supported")
    categories = np.array(node.attr("cats_int64s"), np.int64)
    data = convert_dtype(ctx, inputs[0], "int64")

    def kernel(x: te.Tensor, categories: te.Tensor) -> te.Tensor:
        def element(*i: tirx.Var) -> PrimExpr:
            same = tirx.EQ(x(*i[:-1]), categories(i[-1]))
            return tirx.Select(same, tirx.const(1, "float32"), tirx.const(0, "float32"))

        return te.compute([*x.shape, categories.shape[0]], element, name="one_hot_encoder")

    result = ctx.te(kernel, data, categories, name="one_hot_encoder")
    if not node.attr("zeros", 1):
        _check_known(ctx, data, categories)
    return result


def _check_known(ctx: Context, data: Value, categories: np.ndarray) -> None:
    def unknown(x: te.Tensor, categories: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((prim(0), x.shape[0]), "k")

        def element(_i: tirx.Var) -> PrimExpr:
            found = [tirx.EQ(x(k), categories(prim(j))) for j in range(int(categories.shape[0]))]
            return te.sum(tirx.Select(tirx.any(*found), prim(0), prim(1)), axis=[k])

        return te.compute((prim(1),), element, name="unknown_categories")

    flat = ctx.reshape(data, [ctx.simplify(product(tensor_shape(data)))])
    if not never_has_elements(tensor_shape(flat)):
        (count,) = ctx.ints(ctx.te(unknown, flat, categories), "the number of unknown categories")
        ctx.check(tirx.EQ(count, prim(0)))


@converter("Scaler", domain=DOMAIN)
def scaler(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """(x - offset) * scale, each per feature or one for all."""
    x = floats(ctx, inputs[0])
    offset, scale = (np.array(node.attr(name, [0.0]), tensor_dtype(x)) for name in ("offset", "scale"))
    return cast_to(ctx, multiply(ctx, subtract(ctx, x, offset), scale), "float32")
