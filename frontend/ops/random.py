"""RandomUniform, RandomNormal, their Like forms, Bernoulli and Multinomial.

https://onnx.ai/onnx/operators/onnx__RandomNormal.html and siblings. An element's number is a hash of its position and
the seed, so that a compiled model is a function of its inputs: every run gives the same numbers. Without a seed the
node's name takes its place.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

import onnx_ir as ir
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..arith import prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import PrimExpr, Value, tensor_dtype, tensor_shape
from .arg_reduce import arg_reduce
from .cast import convert_dtype
from .elementwise import add
from .precision import cast_to, widened
from .wrapping import wrapped_multiply


@converter("RandomUniform", "RandomNormal")
def random(ctx: Context, node: Node, _inputs: Sequence[Value]) -> Value:
    return _filled(ctx, node, node.attr("shape", []), ir.DataType(node.attr("dtype", 1)))


@converter("RandomUniformLike", "RandomNormalLike")
def random_like(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    wanted = node.attr("dtype")
    given = tensor_dtype(inputs[0])
    dtype = ir.DataType(wanted) if wanted is not None else None
    return _filled(ctx, node, tensor_shape(inputs[0]), dtype, given)


def _filled(
    ctx: Context, node: Node, shape: Sequence[PrimExpr], dtype: ir.DataType | None, like: str = ""
) -> relax.Expr:
    name = like if dtype is None else dtype.numpy().name
    if name not in ("float16", "bfloat16", "float32", "float64"):
        raise ConversionError(f"random numbers of {name} are not supported")
    if never_has_elements(shape):
        return zeros(ctx, shape, name)
    wide = "float64" if name == "float64" else "float32"
    seed = seed_of(node)
    if node.op_type.startswith("RandomUniform"):
        low, high = node.attr("low", 0.0), node.attr("high", 1.0)
        values = uniform(ctx, shape, wide, seed, low, high)
    else:
        values = _normal(ctx, shape, wide, seed, node.attr("mean", 0.0), node.attr("scale", 1.0))
    return cast_to(ctx, values, name)


def seed_of(node: Node) -> int:
    """32 bits: those of the attribute, else of the node's path and name."""
    seed = node.attr("seed")
    bits = struct.pack("<f", seed) if seed is not None else f"{node.where}/{node.name}".encode()
    return zlib.crc32(bits)


def uniform(ctx: Context, shape: Sequence[PrimExpr], dtype: str, seed: int, low: float, high: float) -> relax.Expr:
    """float32 or float64 numbers from ``low`` up to, not including, ``high``."""

    def uniform(shape: list) -> te.Tensor:
        dims = prim_list(shape)

        def element(*i: tirx.Var) -> PrimExpr:
            return _unit(_position(i, dims), seed, dtype) * _const(high - low, dtype) + _const(low, dtype)

        return te.compute(dims, element, name="random_uniform")

    return ctx.te(uniform, list(shape), name="random_uniform")


def _normal(ctx: Context, shape: Sequence[PrimExpr], dtype: str, seed: int, mean: float, scale: float) -> relax.Expr:
    """Box and Muller's method."""

    def normal(shape: list) -> te.Tensor:
        dims = prim_list(shape)

        def element(*i: tirx.Var) -> PrimExpr:
            at = _position(i, dims)
            above_0 = _const(1, dtype) - _unit(at, seed, dtype)
            turn = _unit(at, seed ^ 0x5BD1E995, dtype) * _const(2 * math.pi, dtype)
            length = tirx.sqrt(tirx.log(above_0) * _const(-2, dtype))
            return length * tirx.cos(turn) * _const(scale, dtype) + _const(mean, dtype)

        return te.compute(dims, element, name="random_normal")

    return ctx.te(normal, list(shape), name="random_normal")


def _position(index: Sequence[tirx.Var], dims: Sequence[PrimExpr]) -> PrimExpr:
    flat = prim(0)
    for i, dim in zip(index, dims, strict=True):
        flat = flat * dim + i
    return flat.astype("uint32")


def _unit(at: PrimExpr, seed: int, dtype: str) -> PrimExpr:
    """From 0 up to, not including, 1, on the grid that the type holds exactly."""
    high = _hash(_hash(at) ^ tirx.const(seed, "uint32"))
    if dtype == "float32":
        return (high >> tirx.const(8, "uint32")).astype("int32").astype(dtype) * _const(2.0**-24, dtype)
    low = _hash(high ^ tirx.const(0xA511E9B3, "uint32")) >> tirx.const(11, "uint32")
    return (high.astype("int64").astype(dtype) * _const(2.0**21, dtype) + low.astype(dtype)) * _const(2.0**-53, dtype)


def _hash(x: PrimExpr) -> PrimExpr:
    """A permutation of 32 bits in which each input bit changes half of the output's (Wellons' lowbias32)."""
    x = x ^ (x >> tirx.const(16, "uint32"))
    x = wrapped_multiply(x, tirx.const(0x7FEB352D, "uint32"))
    x = x ^ (x >> tirx.const(15, "uint32"))
    x = wrapped_multiply(x, tirx.const(0x846CA68B, "uint32"))
    return x ^ (x >> tirx.const(16, "uint32"))


def _const(value: float, dtype: str) -> PrimExpr:
    return tirx.const(float(value), dtype)


@converter("Bernoulli", since=15)
def bernoulli(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """1 with the probability that the input gives; ONNX's own function body has it the other way round."""
    wanted, given = node.attr("dtype"), tensor_dtype(inputs[0])
    dtype = given if wanted is None else ir.DataType(wanted).numpy().name
    x, seed = widened(ctx, inputs[0]), seed_of(node)
    if never_has_elements(tensor_shape(x)):
        return zeros(ctx, tensor_shape(x), dtype)

    def bernoulli(x: te.Tensor) -> te.Tensor:
        return te.compute(
            x.shape, lambda *i: _unit(_position(i, list(x.shape)), seed, str(x.dtype)) < x(*i), name="bernoulli"
        )

    return convert_dtype(ctx, ctx.te(bernoulli, x), dtype)


@converter("Multinomial", since=7)
def multinomial(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """Samples of classes from logarithms of weights [batch, classes]: the largest once Gumbel's noise is added."""
    dims, count = tensor_shape(inputs[0]), node.attr("sample_size", 1)
    dtype = ir.DataType(node.attr("dtype", 6)).numpy().name
    if len(dims) != 2 or dtype not in ("int32", "int64"):
        raise ConversionError(f"needs a matrix and gives int32 or int64, found {list(dims)} and {dtype}")
    if never_has_elements([dims[0], count]):
        return zeros(ctx, [dims[0], count], dtype)
    x, seed = widened(ctx, inputs[0]), seed_of(node)

    def noise(x: te.Tensor) -> te.Tensor:
        shape = [x.shape[0], prim(count), x.shape[1]]

        def element(*i: tirx.Var) -> PrimExpr:
            chance = _unit(_position(i, shape), seed, "float32") + _const(2.0**-25, "float32")
            return (-tirx.log(-tirx.log(chance))).astype(str(x.dtype))

        return te.compute(shape, element, name="gumbel_noise")

    scores = add(ctx, ctx.te(noise, x, name="gumbel_noise"), ctx.reshape(x, [dims[0], 1, dims[1]]))
    return convert_dtype(ctx, arg_reduce(ctx, scores, 2, keepdims=False), dtype)
