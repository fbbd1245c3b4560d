"""BitCast: https://onnx.ai/onnx/operators/onnx__BitCast.html. The same bits, read as another type of that width."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from tvm import tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..values import PrimExpr, Value, tensor_dtype
from .cast import NUMBER_TYPES
from .unary import map_elements


@converter("BitCast")
def bit_cast(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    source, to = tensor_dtype(inputs[0]), ir.DataType(node.attr("to"))
    target = "" if to == ir.DataType.STRING else to.numpy().name
    if not {source, target} <= NUMBER_TYPES or _bits(source) != _bits(target):
        raise ConversionError(f"the bits of {source} can't be read as {target or 'strings'}")
    if source == target:
        return inputs[0]

    def scalar(x: PrimExpr) -> PrimExpr:
        if source == "bool":
            x = x.astype("uint8")
        if target == "bool":
            return tirx.NE(x, tirx.const(0, source))  # a bool holds 0 or 1 and nothing else
        return x.astype(target) if source == "bool" else tirx.reinterpret(target, x)

    return map_elements(ctx, inputs[0], scalar, "bit_cast")


def _bits(dtype: str) -> int:
    return 8 if dtype == "bool" else int("".join(c for c in dtype if c.isdigit()))
