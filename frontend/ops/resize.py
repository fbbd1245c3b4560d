"""Resize and Upsample: https://onnx.ai/onnx/operators/onnx__Resize.html."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import floordiv, known, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..resampling import COORDINATES, ROUNDINGS, Method, Stretch, constant_tables, expressions
from ..shapes import emit_if_shape
from ..values import PrimExpr, Value, as_int, tensor_shape
from .shape import normalized_axes

_REPEATS = {("asymmetric", "floor"), ("asymmetric", "simple")} | {
    (coordinates, rounding)
    for coordinates in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
    for rounding in ("round_prefer_floor", "round_prefer_ceil")
}
"""Modes in which enlarging by a whole factor k repeats every element k times."""


@converter("Resize", since=11)
def resize(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, roi, scales, sizes = [*inputs, None, None, None][:4]
    assert data is not None
    dims = tensor_shape(data)
    axes = normalized_axes(node.attr("axes", list(range(len(dims)))), len(dims))
    method = _method(node)
    if sizes is not None and not _is_empty(sizes):
        wanted = ctx.ints(sizes, "the sizes of a resize")
        lengths, factors = _sizes(node, [dims[axis] for axis in axes], wanted)
    elif scales is not None and not _is_empty(scales):
        given = [float(scale) for scale in ctx.require_constant(scales, "the scales of a resize").reshape(-1)]
        lengths, factors = _scaled(ctx, [dims[axis] for axis in axes], given), list(given)
    else:
        raise ConversionError("neither scales nor sizes are given")
    stretches = _stretches(ctx, method, axes, factors, roi)
    return _resize(ctx, node, data, dict(zip(axes, lengths, strict=True)), stretches, method)


@converter("Resize", since=10)
@converter("Upsample", since=9)
def upsample_9(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    factors = [float(scale) for scale in ctx.require_constant(inputs[1], "the scales of a resize").reshape(-1)]
    return _upsample(ctx, node, inputs[0], factors)


@converter("Upsample", since=7)
def upsample_7(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    return _upsample(ctx, node, inputs[0], node.attr("scales"))


@converter("Upsample", since=1)
def upsample_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    return _upsample(ctx, node, inputs[0], [1.0, 1.0, node.attr("height_scale"), node.attr("width_scale")])


def _upsample(ctx: Context, node: Node, data: Value, factors: Sequence[float]) -> Value:
    dims = tensor_shape(data)
    if len(factors) != len(dims):
        raise ConversionError(f"{len(factors)} scales for a tensor of rank {len(dims)}")
    mode = {"bilinear": "linear"}.get(node.attr("mode", "nearest"), node.attr("mode", "nearest"))
    method = Method(mode, "asymmetric", "simple")
    lengths = dict(enumerate(_scaled(ctx, dims, factors)))
    return _resize(ctx, node, data, lengths, [Stretch(i, float(f)) for i, f in enumerate(factors)], method)


def _method(node: Node) -> Method:
    method = Method(
        node.attr("mode", "nearest"),
        node.attr("coordinate_transformation_mode", "half_pixel"),
        node.attr("nearest_mode", "round_prefer_floor"),
        node.attr("cubic_coeff_a", -0.75),
        bool(node.attr("exclude_outside", 0)),
        node.attr("extrapolation_value", 0.0),
        bool(node.attr("antialias", 0)),
    )
    if method.coordinates not in COORDINATES or method.nearest_mode not in ROUNDINGS:
        raise ConversionError(f"unknown mode {method.coordinates!r} or {method.nearest_mode!r}")
    return method


def _is_empty(value: Value) -> bool:
    return any(as_int(dim) == 0 for dim in tensor_shape(value))


def _scaled(ctx: Context, dims: Sequence[PrimExpr], factors: Sequence[float]) -> list[PrimExpr]:
    """ONNX Runtime's output sizes: the product in float32, rounded down."""
    if len(dims) != len(factors):
        raise ConversionError(f"{len(factors)} scales for {len(dims)} axes")
    if any(factor <= 0 for factor in factors):
        raise ConversionError(f"scales must be positive, found {list(factors)}")
    return [ctx.simplify(_scaled_dim(dim, factor)) for dim, factor in zip(dims, factors, strict=True)]


def _scaled_dim(dim: PrimExpr, factor: float) -> PrimExpr:
    if known(dim):
        return int(np.float32(int(dim)) * np.float32(factor))
    numerator, denominator = float(np.float32(factor)).as_integer_ratio()
    if numerator < 1 << 10:  # exact in float32 for any dim below 16384
        return floordiv(dim * numerator, denominator)
    return (prim(dim).astype("float32") * tirx.const(float(np.float32(factor)), "float32")).astype("int64")


def _sizes(
    node: Node, dims: Sequence[PrimExpr], sizes: Sequence[PrimExpr]
) -> tuple[list[PrimExpr], list[float | None]]:
    """Output sizes and scales: ``sizes`` are what the output has, or bounds it fits (``keep_aspect_ratio_policy``)."""
    if len(sizes) != len(dims):
        raise ConversionError(f"{len(sizes)} sizes for {len(dims)} axes")
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(sizes), [None] * len(sizes)
    if not known(*dims, *sizes):
        raise ConversionError(f"keep_aspect_ratio_policy {policy!r} needs sizes that are known when compiling")
    ratios = [int(size) / int(dim) for size, dim in zip(sizes, dims, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(np.floor(scale * int(dim) + 0.5)) for dim in dims], [scale] * len(dims)


def _stretches(
    ctx: Context, method: Method, axes: Sequence[int], factors: Sequence[float | None], roi: Value | None
) -> list[Stretch]:
    if method.coordinates != "tf_crop_and_resize":
        return [Stretch(axis, factor) for axis, factor in zip(axes, factors, strict=True)]
    if roi is None:
        raise ConversionError("tf_crop_and_resize needs the input roi")
    bounds = [float(bound) for bound in ctx.require_constant(roi, "the roi of a resize").reshape(-1)]
    if len(bounds) != 2 * len(axes):
        raise ConversionError(f"roi has {len(bounds)} numbers for {len(axes)} axes")
    pairs = zip(axes, factors, bounds[: len(axes)], bounds[len(axes) :], strict=True)
    return [Stretch(axis, factor, (start, end)) for axis, factor, start, end in pairs]


def _resize(
    ctx: Context, node: Node, data: Value, lengths: dict[int, PrimExpr], axes: Sequence[Stretch], method: Method
) -> Value:
    if method.mode not in ("nearest", "linear", "cubic"):
        raise ConversionError(f"mode {method.mode!r} is none of nearest, linear, cubic")
    dims = tensor_shape(data)
    shape = [lengths.get(axis, dim) for axis, dim in enumerate(dims)]
    crops = method.coordinates == "tf_crop_and_resize"
    moved = [a for a in axes if crops or a.scale not in (None, 1.0) or not ctx.equal(dims[a.axis], shape[a.axis])]
    if not moved:
        return data
    for a in moved:
        if not known(dims[a.axis]) or as_int(dims[a.axis]) == 0:
            ctx.check(prim(dims[a.axis]) > 0)
    factors = _whole_factors(ctx, dims, shape, moved, method)
    if factors is not None:
        return _repeated(ctx, ctx.tensor(data), shape, factors)
    return _resampled(ctx, ctx.tensor(data), shape, moved, method)


def _resampled(
    ctx: Context, x: relax.Expr, shape: list[PrimExpr], axes: Sequence[Stretch], method: Method
) -> relax.Expr:
    """All axes at once where taps are few; else one axis after the other."""
    if method.antialias and len(axes) > 1:
        partial = [*tensor_shape(x)]
        for stretch in axes:
            partial[stretch.axis] = shape[stretch.axis]
            x = _resampled(ctx, x, list(partial), [stretch], method)
        return x
    tables = [_tables(ctx, tensor_shape(x)[a.axis], shape[a.axis], a, method) for a in axes]
    counts = [int(tensor_shape(places)[1]) for places, _ in tables]

    def gather_taps(x: te.Tensor, shape: list, places: list[te.Tensor], weights: list[te.Tensor]) -> te.Tensor:
        wide = "float64" if str(x.dtype) == "float64" else "float32"

        def picked(index: Sequence[PrimExpr], chosen: Sequence[PrimExpr]) -> PrimExpr:
            moved, weight = list(index), None
            for a, place, scale, tap in zip(axes, places, weights, chosen, strict=True):
                moved[a.axis] = tirx.max(place(index[a.axis], tap), prim(0))
                factor = scale(index[a.axis], tap).astype(wide)
                weight = factor if weight is None else weight * factor
            return x(*moved) if method.mode == "nearest" else x(*moved).astype(wide) * weight

        def element(*index: tirx.Var) -> PrimExpr:
            terms = [picked(index, chosen) for chosen in product(*(range(count) for count in counts))]
            value = terms[0] if method.mode == "nearest" else narrowed(reduce(lambda a, b: a + b, terms), str(x.dtype))
            if method.coordinates == "tf_crop_and_resize":
                for a, place in zip(axes, places, strict=True):
                    outside = tirx.const(method.extrapolation_value, x.dtype)
                    value = tirx.Select(place(index[a.axis], prim(0)) < 0, outside, value)
            return value

        return te.compute(prim_list(shape), element, name=f"resize_{method.mode}")

    name = f"resize_{method.mode}"
    return ctx.te(gather_taps, x, shape, [p for p, _ in tables], [w for _, w in tables], name=name)


def _tables(ctx: Context, size: PrimExpr, resized: PrimExpr, stretch: Stretch, method: Method) -> tuple[Value, Value]:
    """Places and weights of one axis: constants for known sizes, else computed when the model runs."""
    if known(size, resized):
        return constant_tables(int(size), int(resized), stretch, method)

    def table(which: int, name: str) -> Value:
        def resize_table(size: PrimExpr, resized: PrimExpr) -> te.Tensor:
            count = len(expressions(size, resized, stretch, method, prim(0)))

            def element(i: tirx.Var, tap: tirx.Var) -> PrimExpr:
                found = [item[which] for item in expressions(size, resized, stretch, method, i)]
                value = found[-1]
                for k in range(count - 2, -1, -1):
                    value = tirx.Select(tap == k, found[k], value)
                return value

            return te.compute((prim(resized), prim(count)), element, name=name)

        return ctx.te(resize_table, size, resized, name=name)

    return table(0, "resize_places"), table(1, "resize_weights")


def narrowed(value: PrimExpr, dtype: str) -> PrimExpr:
    """A float result as ``dtype``; integers are cut off towards zero and kept within their range."""
    if "float" in dtype:
        return value.astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    bounded = tirx.max(tirx.min(value, tirx.const(float(high), value.ty)), tirx.const(float(low), value.ty))
    return bounded.astype(dtype)


def _whole_factors(
    ctx: Context, dims: Sequence[PrimExpr], shape: Sequence[PrimExpr], axes: Sequence[Stretch], method: Method
) -> dict[int, int] | None:
    """Per axis the k of a nearest resize that repeats each element k times, None for any other resize."""
    if method.mode != "nearest" or (method.coordinates, method.nearest_mode) not in _REPEATS:
        return None
    factors = {}
    for a in axes:
        factor = int(a.scale) if a.scale is not None else _ratio(ctx, shape[a.axis], dims[a.axis])
        if factor is None or factor < 1 or (a.scale is not None and factor != a.scale):
            return None
        factors[a.axis] = factor
    return factors


def _ratio(ctx: Context, resized: PrimExpr, size: PrimExpr) -> int | None:
    if known(resized, size):
        return int(resized) // int(size) if int(size) and int(resized) % int(size) == 0 else None
    return next((k for k in (1, 2, 3, 4, 8) if ctx.equal(resized, size * k)), None)


def _repeated(ctx: Context, x: relax.Expr, shape: list[PrimExpr], factors: dict[int, int]) -> Value:
    dims = tensor_shape(x)
    if len(dims) == 4 and set(factors) <= {2, 3} and all(k in (1, 2, 4, 8, 16) for k in factors.values()):
        # Relax's operator, which layout passes know; exact because float32 divides by powers of two without error.
        size = relax.ShapeExpr(prim_list(shape[2:]))
        expr = relax.op.image.resize2d(
            x, size, layout="NCHW", method="nearest_neighbor", coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )  # fmt: skip
        emitted = emit_if_shape(ctx, expr, shape)
        if emitted is not None:
            return emitted

    def repeat(x: te.Tensor, shape: list[PrimExpr]) -> te.Tensor:
        def element(*index: tirx.Var) -> PrimExpr:
            return x(*(i // factors.get(axis, 1) for axis, i in enumerate(index)))

        return te.compute(prim_list(shape), element, name="resize_repeat")

    return ctx.te(repeat, x, shape)
