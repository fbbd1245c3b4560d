"""MelWeightMatrix: https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html. Triangles over a spectrum's bins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir
from tvm import relax, te, tirx

from ..arith import floordiv, prim
from ..context import Context, prim_list
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..values import PrimExpr, Value
from .cast import convert_dtype

MEL = 2595.0
KNEE = 700.0
"""In hertz; below it mel is nearly linear in frequency."""


@converter("MelWeightMatrix", since=17)
def mel_weight_matrix(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    """[dft_length // 2 + 1, num_mel_bins]; computed in float64, like ONNX's own evaluator."""
    sizes = [ctx.ints(value, what)[0] for value, what in zip(inputs[:3], ("bins", "dft_length", "rate"), strict=False)]
    for size, least in zip(sizes, (0, 1, 1), strict=True):
        ctx.check(prim(size) >= least)
    bins, length, rate = sizes
    shape = [ctx.simplify(floordiv(length, 2) + 1), bins]
    dtype = ir.DataType(node.attr("output_datatype", 1)).numpy().name
    if never_has_elements(shape):
        return zeros(ctx, shape, dtype)
    low, high = (_scalar(ctx, value) for value in inputs[3:5])

    def edges(low: te.Tensor, high: te.Tensor, bins: PrimExpr, length: PrimExpr, rate: PrimExpr) -> te.Tensor:
        count = prim(bins) + 2

        def edge(i: tirx.Var) -> PrimExpr:
            start, end = (_to_mel(value(prim(0))) for value in (low, high))
            mel = start + i.astype("float64") * ((end - start) / count.astype("float64"))
            hertz = _const(KNEE) * (tirx.exp(mel * _const(math.log(10) / MEL)) - _const(1))
            return tirx.floor((prim(length) + 1).astype("float64") * hertz / prim(rate).astype("float64")).astype(
                "int64"
            )

        return te.compute((count,), edge, name="mel_edges")

    places = ctx.te(edges, low, high, bins, length, rate, name="mel_edges")

    def triangles(edges: te.Tensor, shape: list) -> te.Tensor:
        def element(j: tirx.Var, i: tirx.Var) -> PrimExpr:
            left, middle, right = (edges(i + k) for k in range(3))
            rising = tirx.Select(left < middle, _ratio(j - left, middle - left), _const(1))
            up, down = tirx.all(j >= left, j <= middle), tirx.all(j >= middle, j < right)
            return tirx.Select(down, _ratio(right - j, right - middle), tirx.Select(up, rising, _const(0)))

        return te.compute(prim_list(shape), element, name="mel_triangles")

    return convert_dtype(ctx, ctx.te(triangles, places, shape, name="mel_triangles"), dtype)


def _scalar(ctx: Context, value: Value) -> relax.Expr:
    return ctx.tensor(convert_dtype(ctx, ctx.reshape(value, [1]), "float64"))


def _const(value: float) -> PrimExpr:
    return tirx.const(float(value), "float64")


def _to_mel(hertz: PrimExpr) -> PrimExpr:
    return _const(MEL / math.log(10)) * tirx.log(_const(1) + hertz / _const(KNEE))


def _ratio(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """Both are harmless to divide where the result is not used."""
    return a.astype("float64") / tirx.max(b, prim(1)).astype("float64")
