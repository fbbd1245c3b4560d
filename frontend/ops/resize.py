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
from ..resampling import COORDINATES, ROUNDINGS, Method, Stretch
from ..shapes import emit_if_shape
from ..values import PrimExpr, Value, as_int, tensor_dtype, tensor_shape
from .resize_tables import Entry, tap_tables
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
        lengths, factors = _sizes(ctx, node, [dims[axis] for axis in axes], wanted)
    elif scales is not None and not _is_empty(scales):
        lengths, factors = _scaled(ctx, [dims[axis] for axis in axes], scales)
    else:
        raise ConversionError("neither scales nor sizes are given")
    stretches = _stretches(ctx, method, axes, factors, roi)
    return _resize(ctx, data, dict(zip(axes, lengths, strict=True)), stretches, method)


@converter("Resize", since=10)
@converter("Upsample", since=9)
def upsample_9(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    return _upsample(ctx, node, inputs[0], inputs[1])


@converter("Upsample", since=7)
def upsample_7(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    return _upsample(ctx, node, inputs[0], np.array(node.attr("scales"), np.float32))


@converter("Upsample", since=1)
def upsample_1(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    scales = np.array([1.0, 1.0, node.attr("height_scale"), node.attr("width_scale")], np.float32)
    return _upsample(ctx, node, inputs[0], scales)


def _upsample(ctx: Context, node: Node, data: Value, scales: Value) -> Value:
    dims = tensor_shape(data)
    mode = {"bilinear": "linear"}.get(node.attr("mode", "nearest"), node.attr("mode", "nearest"))
    method = Method(mode, "asymmetric", "simple")
    lengths, factors = _scaled(ctx, dims, scales)
    stretches = _stretches(ctx, method, list(range(len(dims))), factors, None)
    return _resize(ctx, data, dict(enumerate(lengths)), stretches, method)


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


Factor = float | Entry | None
"""A scale: a number, an entry of a tensor that is read when the model runs, or None to follow from the sizes."""


def _scaled(ctx: Context, dims: Sequence[PrimExpr], scales: Value) -> tuple[list[PrimExpr], list[Factor]]:
    """ONNX Runtime's output sizes, the product in float32 rounded down, and the scales."""
    (count,) = tensor_shape(scales)
    if as_int(count) != len(dims):
        raise ConversionError(f"{count} scales for {len(dims)} axes")
    array = ctx.constant(scales)
    if array is None:
        return _scaled_at_run(ctx, dims, ctx.tensor(scales))
    factors = [float(scale) for scale in array]
    if any(factor <= 0 for factor in factors):
        raise ConversionError(f"scales must be positive, found {factors}")
    lengths = [ctx.simplify(_scaled_dim(dim, factor)) for dim, factor in zip(dims, factors, strict=True)]
    return lengths, list(factors)


def _scaled_at_run(ctx: Context, dims: Sequence[PrimExpr], scales: relax.Expr) -> tuple[list[PrimExpr], list[Factor]]:
    def scaled_sizes(scales: te.Tensor, dims: list[PrimExpr]) -> te.Tensor:
        def element(axis: tirx.Var) -> PrimExpr:
            size = prim(dims[-1])
            for i in range(len(dims) - 2, -1, -1):
                size = tirx.Select(axis == i, prim(dims[i]), size)
            return tirx.floor(size.astype("float32") * scales(axis)).astype("int64")

        return te.compute((prim(len(dims)),), element, name="scaled_sizes")

    lengths = ctx.ints(ctx.te(scaled_sizes, scales, list(dims)), "the sizes of a resize")
    for length in lengths:
        ctx.check(prim(length) >= 0)
    return lengths, [Entry(scales, i) for i in range(len(dims))]


def _scaled_dim(dim: PrimExpr, factor: float) -> PrimExpr:
    if known(dim):
        return int(np.float32(int(dim)) * np.float32(factor))
    numerator, denominator = float(np.float32(factor)).as_integer_ratio()
    if numerator < 1 << 10:  # exact in float32 for any dim below 16384
        return floordiv(dim * numerator, denominator)
    return (prim(dim).astype("float32") * tirx.const(float(np.float32(factor)), "float32")).astype("int64")


def _sizes(
    ctx: Context, node: Node, dims: Sequence[PrimExpr], sizes: Sequence[PrimExpr]
) -> tuple[list[PrimExpr], list[Factor]]:
    """Output sizes and scales: ``sizes`` are what the output has, or bounds it fits (``keep_aspect_ratio_policy``)."""
    if len(sizes) != len(dims):
        raise ConversionError(f"{len(sizes)} sizes for {len(dims)} axes")
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(sizes), [None] * len(sizes)
    if not known(*dims, *sizes):
        return _fitted_at_run(ctx, policy == "not_larger", dims, sizes)
    ratios = [int(size) / int(dim) for size, dim in zip(sizes, dims, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(np.floor(scale * int(dim) + 0.5)) for dim in dims], [scale] * len(dims)


def _fitted_at_run(
    ctx: Context, inside: bool, dims: Sequence[PrimExpr], sizes: Sequence[PrimExpr]
) -> tuple[list[PrimExpr], list[Factor]]:
    """The scale that all axes share: the smallest (``inside``) or largest ratio of a size and its dim."""

    def wide(value: PrimExpr) -> PrimExpr:
        return prim(value).astype("float64")

    def common_scale(dims: list[PrimExpr], sizes: list[PrimExpr]) -> te.Tensor:
        ratios = [wide(size) / wide(tirx.max(prim(dim), prim(1))) for size, dim in zip(sizes, dims, strict=True)]
        return te.compute((prim(1),), lambda _: reduce(tirx.min if inside else tirx.max, ratios), name="common_scale")

    def fitted_sizes(scale: te.Tensor, dims: list[PrimExpr]) -> te.Tensor:
        def element(axis: tirx.Var) -> PrimExpr:
            size = prim(dims[-1])
            for i in range(len(dims) - 2, -1, -1):
                size = tirx.Select(axis == i, prim(dims[i]), size)
            return tirx.floor(scale(prim(0)) * wide(size) + tirx.const(0.5, "float64")).astype("int64")

        return te.compute((prim(len(dims)),), element, name="fitted_sizes")

    scale = ctx.te(common_scale, list(dims), list(sizes))
    lengths = ctx.ints(ctx.te(fitted_sizes, scale, list(dims)), "the sizes of a resize")
    for length in lengths:
        ctx.check(prim(length) >= 0)
    return lengths, [Entry(ctx.emit(relax.op.astype(scale, "float32")), 0)] * len(dims)


def _stretches(
    ctx: Context, method: Method, axes: Sequence[int], factors: Sequence[Factor], roi: Value | None
) -> list[Stretch]:
    if method.coordinates != "tf_crop_and_resize":
        return [Stretch(axis, factor) for axis, factor in zip(axes, factors, strict=True)]
    if roi is None:
        raise ConversionError("tf_crop_and_resize needs the input roi")
    count = len(axes)
    if [as_int(dim) for dim in tensor_shape(roi)] != [2 * count]:
        raise ConversionError(f"roi has shape {list(tensor_shape(roi))} for {count} axes")
    array = ctx.constant(roi)
    bounds = [Entry(ctx.tensor(roi), i) for i in range(2 * count)] if array is None else [float(v) for v in array]
    pairs = zip(axes, factors, bounds[:count], bounds[count:], strict=True)
    return [Stretch(axis, factor, (start, end)) for axis, factor, start, end in pairs]


def _resize(ctx: Context, data: Value, lengths: dict[int, PrimExpr], axes: Sequence[Stretch], method: Method) -> Value:
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
            ctx.check(tirx.any(prim(dims[a.axis]) > 0, prim(shape[a.axis]) == 0))
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
        for stretch in reversed(axes):  # ONNX Runtime's order: bytes are rounded after each
            partial[stretch.axis] = shape[stretch.axis]
            x = _resampled(ctx, x, list(partial), [stretch], method)
        return x
    tables = [tap_tables(ctx, tensor_shape(x)[a.axis], shape[a.axis], a, method) for a in axes]
    counts = [as_int(tensor_shape(places)[1]) for places, _ in tables]
    if None in counts:
        return _summed(ctx, x, shape, axes[0].axis, method, *tables[0])

    def gather_taps(x: te.Tensor, shape: list, places: list[te.Tensor], weights: list[te.Tensor]) -> te.Tensor:
        wide = "float64" if str(x.dtype) == "float64" or _in_fixed_point(x, method) else "float32"

        def picked(index: Sequence[PrimExpr], chosen: Sequence[PrimExpr]) -> PrimExpr:
            moved, weight = list(index), None
            for a, place, scale, tap in zip(axes, places, weights, chosen, strict=True):
                moved[a.axis] = tirx.max(place(index[a.axis], tap), prim(0))
                factor = scale(index[a.axis], tap).astype(wide)
                factor = _fixed_point(factor) if _in_fixed_point(x, method) else factor
                weight = factor if weight is None else weight * factor
            return x(*moved) if method.mode == "nearest" else x(*moved).astype(wide) * weight

        def element(*index: tirx.Var) -> PrimExpr:
            terms = [picked(index, chosen) for chosen in product(*(range(count or 0) for count in counts))]
            value = terms[0]
            if method.mode != "nearest":
                value = narrowed(reduce(lambda a, b: a + b, terms), str(x.dtype), _in_fixed_point(x, method))
            if method.coordinates == "tf_crop_and_resize":
                for a, place in zip(axes, places, strict=True):
                    outside = tirx.const(method.extrapolation_value, x.dtype)
                    value = tirx.Select(place(index[a.axis], prim(0)) < 0, outside, value)
            return value

        return te.compute(prim_list(shape), element, name=f"resize_{method.mode}")

    name = f"resize_{method.mode}"
    return ctx.te(gather_taps, x, shape, [p for p, _ in tables], [w for _, w in tables], name=name)


def _in_fixed_point(x: te.Tensor, method: Method) -> bool:
    """Whether ONNX Runtime's antialiasing, as Pillow's, computes in fixed point and rounds: it does so for bytes."""
    return method.antialias and str(x.dtype) in ("int8", "uint8")


def _fixed_point(weight: PrimExpr) -> PrimExpr:
    """A float64 weight with 22 bits behind the point."""
    bits = tirx.const(float(1 << 22), "float64")
    return tirx.floor(weight * bits + tirx.const(0.5, "float64")) / bits


def _summed(
    ctx: Context, x: relax.Expr, shape: list[PrimExpr], axis: int, method: Method, places: Value, weights: Value
) -> relax.Expr:
    """One axis with as many taps as the scale asks for when the model runs."""

    def sum_taps(x: te.Tensor, shape: list, places: te.Tensor, weights: te.Tensor) -> te.Tensor:
        fixed = _in_fixed_point(x, method)
        wide = "float64" if fixed or str(x.dtype) == "float64" else "float32"
        tap = te.reduce_axis((0, places.shape[1]), "tap")

        def element(*index: tirx.Var) -> PrimExpr:
            moved = [*index[:axis], places(index[axis], tap), *index[axis + 1 :]]
            weight = weights(index[axis], tap).astype(wide)
            return te.sum(x(*moved).astype(wide) * (_fixed_point(weight) if fixed else weight), axis=tap)

        return te.compute(prim_list(shape), element, name="resize_antialias")

    def narrow(sums: te.Tensor, dtype: str) -> te.Tensor:
        rounds = dtype in ("int8", "uint8")
        return te.compute(sums.shape, lambda *index: narrowed(sums(*index), dtype, rounds), name="resize_narrow")

    sums = ctx.te(sum_taps, x, shape, places, weights)
    return sums if tensor_dtype(sums) == tensor_dtype(x) else ctx.te(narrow, sums, tensor_dtype(x))


def narrowed(value: PrimExpr, dtype: str, rounds: bool) -> PrimExpr:
    """A float result as ``dtype``; integers are cut off towards zero, or rounded, and kept within their range."""
    if "float" in dtype:
        return value.astype(dtype)
    if rounds:
        value = tirx.floor(value + tirx.const(0.5, value.ty))
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
        if isinstance(a.scale, Entry):
            return None
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
