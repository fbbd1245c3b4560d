"""TVM's own converters for what we have none of, behind our checks: domain, names in errors, known shapes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import onnx
import onnx_ir as ir
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from ..errors import ConversionError
from .context import Context, prim_list
from .node import Node
from .values import SymbolicInts, Value, tensor_shape

_TAKES_SHAPES = {"Reshape", "Resize", "ConstantOfShape", "Expand"}
"""Operators whose TVM converter takes a ``ShapeExpr`` in place of an int64 tensor."""

_REFUSED = {
    "If", "Loop", "Scan", "NonMaxSuppression", "Unique", "NonZero", "AllClassNMS", "TopK", "MaxUnpool", "Attention",
    "MaxRoiPool",
    "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceAt", "SequenceLength", "ConcatFromSequence", "SplitToSequence",
}  # fmt: skip
"""Known to be wrong, to leave shapes unknown, or to call functions that a deployed artifact doesn't have."""


def covers(node: Node) -> bool:
    """Whether TVM has a converter for this operator of ONNX's own domain."""
    return node.domain == "" and node.op_type not in _REFUSED and node.op_type in onnx_frontend._get_convert_map()


def convert(ctx: Context, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    """Run TVM's converter; refuse results whose shape it does not know."""
    takes_shapes = node.op_type in _TAKES_SHAPES
    args = onnx_frontend.onnx_input([_argument(ctx, value, takes_shapes) for value in inputs])
    attrs = _attributes(node)
    function = onnx_frontend._get_convert_map()[node.op_type].get_converter(node.opset)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where it should raise
        result = ctx.builder.normalize(function(ctx.builder, args, attrs, [{}, {}]))
    return [_known(ctx, node, item) for item in _items(ctx, result)]


def _argument(ctx: Context, value: Value | None, takes_shapes: bool) -> Any:
    if isinstance(value, SymbolicInts) and takes_shapes and len(value.shape) == 1:
        return relax.ShapeExpr(prim_list(list(value.elements)))
    return None if value is None else ctx.tensor(value)


def _attributes(node: Node) -> dict[str, Any]:
    importer = onnx_frontend.ONNXGraphImporter({}, "float32")
    proto: onnx.NodeProto = ir.to_proto(node.ir)
    attrs = importer._parse_attr([attribute for attribute in proto.attribute if not _is_empty(attribute)])
    attrs["tvm_custom"] = {"name": node.name, "num_outputs": node.output_count}
    return attrs


def _is_empty(attribute: onnx.AttributeProto) -> bool:
    return attribute.type == onnx.AttributeProto.INTS and not attribute.ints


def _items(ctx: Context, result: relax.Expr) -> list[relax.Expr]:
    if isinstance(result, relax.Tuple):
        return [ctx.emit(field) for field in result.fields]
    bound = ctx.emit(result)
    if isinstance(bound.ty, relax.TupleType):
        return [ctx.emit(relax.TupleGetItem(bound, i)) for i in range(len(bound.ty.fields))]
    return [bound]


def _known(ctx: Context, node: Node, value: relax.Expr) -> Value:
    if isinstance(value.ty, relax.ShapeType):
        from .values import symbolic

        return symbolic(list(value.ty.values))
    tensor_shape(value)  # raises where TVM lost the shape
    if isinstance(value.ty, relax.TensorType):
        return value
    raise ConversionError(f"{node.op_type} gave {value.ty} where a tensor is needed")
