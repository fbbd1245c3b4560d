"""A layer as a model of its own, in floating point and in integers: what its time is measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant
from .insert_dynamic import insert_dynamic
from .insert_pairs import insert_pairs
from .layers import Layer
from .parameters import Affine8
from .plan import Selection, make_plan

OPSET = 21
_DATA = Affine8(0.02, 117)
_RESULT = Affine8(0.05, 117)
"""Any scales will do: time doesn't depend on them."""


@dataclass(frozen=True)
class LayerKind:
    """What a layer's time depends on, beside the shape of its data. ``attributes`` are (name, type, value)."""

    op_type: str
    attributes: tuple[tuple[str, ir.AttributeType, Any], ...]
    weight: tuple[int, ...]
    axis: int
    bias: bool


def kind_of(layer: Layer) -> LayerKind:
    """The kind of a layer; equal for layers that take the same time on data of the same shape."""
    attributes = [(a.name, a.type, _hashable(a.value)) for a in layer.node.attributes.values()]
    named = sorted(attributes, key=lambda item: item[0])
    return LayerKind(layer.node.op_type, tuple(named), layer.weight.shape, layer.axis, layer.bias is not None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else tuple(value)


def float_model(kind: LayerKind, shape: Sequence[int]) -> ir.Model:
    """The layer, with random weights, on data ``x`` of ``shape``; input and output are float32."""
    data = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    output = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([data], [output], nodes=[], opset_imports={"": OPSET}, name="layer")
    random = np.random.default_rng(0)
    inputs = [data, add_constant(graph, "w", random.standard_normal(kind.weight, dtype=np.float32))]
    if kind.bias:
        inputs.append(add_constant(graph, "b", random.standard_normal(kind.weight[kind.axis], dtype=np.float32)))
    attributes = [ir.Attr(*attribute) for attribute in kind.attributes]
    graph.append(ir.Node("", kind.op_type, inputs, attributes, outputs=[output], name="layer"))
    return ir.Model(graph, ir_version=10)


def integer_model(kind: LayerKind, shape: Sequence[int], dynamic: bool) -> ir.Model:
    """The same in integers: input and output are uint8, as between integer layers; float32 in dynamic quantization."""
    model = float_model(kind, shape)
    plan = make_plan(model.graph, Selection(), carry=False)
    if dynamic:
        insert_dynamic(model, plan)
        return model
    insert_pairs(model, plan, {"x": _DATA})
    _open_ends(model.graph)
    return model


def _open_ends(graph: ir.Graph) -> None:
    """The input comes quantized, the output leaves quantized."""
    data = graph.inputs[0]
    (quantize,) = [use.node for use in data.uses()]
    fresh = ir.Value(name="x", type=ir.TensorType(ir.DataType.UINT8), shape=data.shape)
    quantize.outputs[0].replace_all_uses_with(fresh)
    graph.remove(quantize)
    graph.inputs[:] = [fresh]
    result = graph.outputs[0]
    result.name = "y_float"
    scale = add_constant(graph, "y.scale", np.array(_RESULT.scale, np.float32))
    zero = add_constant(graph, "y.zero", np.array(_RESULT.zero, np.uint8))
    output = ir.Value(name="y", type=ir.TensorType(ir.DataType.UINT8))
    graph.append(ir.node("QuantizeLinear", [result, scale, zero], outputs=[output]))
    graph.outputs[:] = [output]
