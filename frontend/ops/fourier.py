"""DFT and STFT: https://onnx.ai/onnx/operators/onnx__DFT.html, https://onnx.ai/onnx/operators/onnx__STFT.html.

Lengths known when compiling make the transform a matrix product, with the window worked into the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import floordiv, known, maximum, prim
from ..context import Context, prim_list
from ..fourier import Transform, direct_sums
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, same_dim, zeros
from ..values import PrimExpr, Value, as_int, rank, symbolic, tensor_dtype, tensor_shape
from .elementwise import multiply
from .matmul import matmul
from .precision import cast_to, in_float32
from .shape import normalized_axes
from .slice import Cut, take_cuts


@converter("DFT", since=20)
def dft_20(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, length, axis = [*inputs, None, None][:3]
    assert data is not None
    return _dft(ctx, node, data, length, -2 if axis is None else ctx.ints(axis, "axis")[0])


@converter("DFT", since=17)
def dft_17(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    data, length = [*inputs, None][:2]
    assert data is not None
    return _dft(ctx, node, data, length, node.attr("axis", 1))


def _dft(ctx: Context, node: Node, data: Value, length: Value | None, axis: PrimExpr) -> Value:
    dims = tensor_shape(data)
    if len(dims) < 2 or as_int(dims[-1]) not in (1, 2):
        raise ConversionError(f"the last of at least 2 dims must be 1 or 2 (real, imaginary), found {list(dims)}")
    axis = _axis(ctx, axis, len(dims))
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    size = dims[int(axis)] if known(axis) else _chosen_dim(ctx, axis, dims)
    if length is not None:
        points = ctx.ints(length, "dft_length")[0]
    else:
        points = ctx.simplify(2 * (size - 1)) if inverse and onesided else size
    return in_float32(ctx, data, lambda x: fourier(ctx, x, axis, Transform(points, inverse, onesided)))


def _axis(ctx: Context, axis: PrimExpr, dims: int) -> PrimExpr:
    """The axis counted from the front; the last one is refused, now or at run time."""
    if known(axis):
        (place,) = normalized_axes([int(axis)], dims)
        if place == dims - 1:
            raise ConversionError(f"axis {axis} holds real and imaginary parts, it can't be transformed")
        return place
    ctx.check(tirx.all(axis >= -dims, axis < dims - 1, axis != -1))
    (place,) = ctx.ints(ctx.tensor(symbolic([tirx.Select(axis < 0, axis + dims, axis)])))
    return place


def _chosen_dim(ctx: Context, axis: PrimExpr, dims: Sequence[PrimExpr]) -> PrimExpr:
    size = prim(dims[-2])
    for i, dim in enumerate(dims[:-2]):
        size = tirx.Select(tirx.EQ(axis, prim(i)), prim(dim), size)
    return ctx.compact(ctx.simplify(size))


def fourier(ctx: Context, x: relax.Expr, axis: PrimExpr, transform: Transform) -> relax.Expr:
    """The transform of float32 or float64 ``x`` along ``axis``."""
    dims = tensor_shape(x)
    if known(transform.length) and int(transform.length) < 1:
        raise ConversionError(f"a transform of {transform.length} points")
    ctx.check(prim(transform.length) >= 1)
    points = ctx.simplify(transform.points)
    if known(axis):
        shape = [*dims[:-1], transform.parts]
        shape[int(axis)] = points
        matrix = transform.matrix(int(dims[int(axis)]), int(dims[-1])) if known(dims[int(axis)]) else None
    else:
        chosen = [tirx.Select(tirx.EQ(axis, prim(i)), prim(points), prim(dim)) for i, dim in enumerate(dims[:-1])]
        shape, matrix = [*(ctx.compact(ctx.simplify(dim)) for dim in chosen), transform.parts], None
    if never_has_elements(shape) or never_has_elements(dims):
        return zeros(ctx, shape, tensor_dtype(x))
    if matrix is not None:
        return _product(ctx, x, int(axis), matrix, shape)

    def sums(x: te.Tensor, axis: PrimExpr, shape: list, length: PrimExpr) -> te.Tensor:
        return direct_sums(x, Transform(length, transform.inverse, transform.onesided), axis, shape)

    return ctx.te(sums, x, axis, shape, transform.length, name="fourier_sums")


def _product(ctx: Context, x: relax.Expr, axis: int, matrix: np.ndarray, shape: Sequence[PrimExpr]) -> relax.Expr:
    """``x``'s pairs along ``axis`` as rows of a matrix product."""
    dims = tensor_shape(x)
    used = matrix.shape[0] // int(dims[-1])
    cut = ctx.tensor(take_cuts(ctx, x, {axis: Cut(0, used, 1)}))
    order = [*(i for i in range(len(dims) - 1) if i != axis), axis, len(dims) - 1]
    moved = order != list(range(len(dims)))
    rows = ctx.emit(relax.op.permute_dims(cut, order)) if moved else cut
    flat = ctx.reshape(rows, [*tensor_shape(rows)[:-2], matrix.shape[0]])
    result = matmul(ctx, flat, matrix.astype(tensor_dtype(x)))
    pairs = ctx.tensor(ctx.reshape(result, [shape[i] for i in order]))
    back = [order.index(i) for i in range(len(dims))]
    return ctx.emit(relax.op.permute_dims(pairs, back)) if moved else pairs


@converter("STFT", since=17)
def stft(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> Value:
    signal, step, window, length = [*inputs, None, None][:4]
    assert signal is not None and step is not None
    dims = tensor_shape(signal)
    if len(dims) == 2:
        dims = (*dims, 1)
    parts = as_int(dims[-1])
    if len(dims) != 3 or parts not in (1, 2):
        raise ConversionError(f"the signal must be [batch, samples, 1 or 2], found {list(dims)}")
    (hop,) = ctx.ints(step, "frame_step")
    points = _frame_length(ctx, dims, window, length)
    if (known(hop) and int(hop) < 1) or (known(points) and int(points) < 1):
        raise ConversionError(f"frames of {points} samples, {hop} apart")
    ctx.check(prim(hop) >= 1)
    ctx.check(prim(dims[1]) >= prim(points))
    count = ctx.simplify(floordiv(dims[1] - points, maximum(hop, 1)) + 1)
    transform = Transform(points, onesided=bool(node.attr("onesided", 1)))

    def transformed(x: relax.Expr) -> relax.Expr:
        frames = _frames(ctx, ctx.tensor(ctx.reshape(x, dims)), [dims[0], count, points, parts], hop)
        if window is not None and not isinstance(window, np.ndarray):
            shaped = ctx.reshape(cast_to(ctx, window, tensor_dtype(x)), [points, 1])
            frames = multiply(ctx, frames, shaped)
        if not isinstance(window, np.ndarray):
            return fourier(ctx, frames, 2, transform)
        return _windowed(ctx, frames, window, transform)

    return in_float32(ctx, signal, transformed)


def _windowed(ctx: Context, frames: relax.Expr, window: np.ndarray, transform: Transform) -> relax.Expr:
    """Frames [batch, frames, points, parts] times a constant window, transformed."""
    *outer, points, parts = tensor_shape(frames)
    weights = window.astype(np.float64).reshape(-1)
    matrix = transform.matrix(int(points), int(parts))
    if matrix is None or never_has_elements(outer):
        factors = weights.reshape(-1, 1).astype(tensor_dtype(frames))
        return fourier(ctx, multiply(ctx, frames, factors), 2, transform)
    shape = [*outer, int(transform.points), transform.parts]
    return _product(ctx, frames, 2, matrix * np.repeat(weights, int(parts))[:, None], shape)


def _frame_length(ctx: Context, dims: Sequence[PrimExpr], window: Value | None, length: Value | None) -> PrimExpr:
    if length is not None:
        (points,) = ctx.ints(length, "frame_length")
    elif window is not None:
        return tensor_shape(window)[0]
    else:
        return dims[1]
    if window is None:
        return points
    if rank(window) != 1:
        raise ConversionError(f"the window must be a vector, found shape {list(tensor_shape(window))}")
    return same_dim(ctx, [tensor_shape(window)[0], points], "the window and frame_length")


def _frames(ctx: Context, signal: relax.Expr, shape: Sequence[PrimExpr], hop: PrimExpr) -> relax.Expr:
    def frames(x: te.Tensor, shape: list, hop: PrimExpr) -> te.Tensor:
        return te.compute(prim_list(shape), lambda b, f, t, part: x(b, f * prim(hop) + t, part), name="frames")

    return ctx.te(frames, signal, list(shape), hop)
