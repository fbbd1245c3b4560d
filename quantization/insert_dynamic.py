"""Layers whose data is quantized while the model runs, by the range of each tensor: the form of ONNX Runtime's tools.

DynamicQuantizeLinear, MatMulInteger or ConvInteger, then a scale for each output channel, then the bias in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..errors import UsageError
from .graph_tensors import add_constant, constant_of, insert_after, is_onnx, opset_of
from .layers import Layer
from .parameters import IntegerWeight, quantize_weight
from .plan import Plan

SINCE = 11
"""The first opset with DynamicQuantizeLinear."""


def insert_dynamic(model: ir.Model, plan: Plan) -> None:
    """Rewrite the plan's layers in place. Raises UsageError for a model of an opset that is too old."""
    if plan.layers and opset_of(model) < SINCE:
        raise UsageError(
            f"dynamic quantization needs opset {SINCE}, the model has {opset_of(model)}",
            hint="quantize it statically (--quantize int8 --calibrate DATA), or export it with a newer opset",
        )
    writer = _Writer(model.graph)
    for layer in plan.layers:
        writer.rewrite(layer)


class _Writer:
    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self._quantized: dict[ir.Value, list[ir.Value]] = {}
        self._weights: dict[tuple[str, int, bool], tuple[IntegerWeight, ir.Value]] = {}

    def rewrite(self, layer: Layer) -> None:
        node, name = layer.node, layer.name
        data, scale, zero = self._data(layer.data)
        weight, integers = self._weight(layer)
        shape = [1, -1] + [1] * (layer.weight.ndim - 2) if is_onnx(node, "Conv") else [-1]
        scales = add_constant(self.graph, f"{name}.scales", weight.scales.reshape(shape))
        if is_onnx(node, "Conv"):
            attributes = [ir.Attr(a.name, a.type, a.value) for a in node.attributes.values()]
            sums = ir.Node("", "ConvInteger", [data, integers, zero], attributes, outputs=[self._new(name, "sums")])
        else:
            sums = ir.node("MatMulInteger", [data, integers, zero], outputs=[self._new(name, "sums")])
        real = ir.node("Cast", [sums.outputs[0]], {"to": int(ir.DataType.FLOAT)}, outputs=[self._new(name, "real")])
        factor = ir.node("Mul", [scale, scales], outputs=[self._new(name, "factor")])
        last = ir.node("Mul", [real.outputs[0], factor.outputs[0]], outputs=[self._new(name, "scaled")])
        made = [sums, real, factor, last]
        bias = self._bias(layer, shape)
        if bias is not None:
            last = ir.node("Add", [last.outputs[0], bias], outputs=[self._new(name, "biased")])
            made.append(last)
        self._replace(node, made)

    def _new(self, name: str, what: str) -> ir.Value:
        return ir.Value(name=f"{name}.{what}")

    def _data(self, value: ir.Value) -> list[ir.Value]:
        """(uint8, scale, zero point); layers that read the same value share them."""
        if value not in self._quantized:
            made = [self._new(value.name or "value", part) for part in ("quantized", "scale", "zero")]
            insert_after(self.graph, value, [ir.node("DynamicQuantizeLinear", [value], outputs=made)])
            self._quantized[value] = made
        return self._quantized[value]

    def _weight(self, layer: Layer) -> tuple[IntegerWeight, ir.Value]:
        original = layer.node.inputs[1]
        assert original is not None
        turned = bool(layer.node.attributes.get_int("transB", 0)) if is_onnx(layer.node, "Gemm") else False
        key = (original.name or "", layer.axis, turned)
        if key not in self._weights:
            made = quantize_weight(layer.weight, layer.axis)
            values = np.ascontiguousarray(made.values.T) if turned else made.values
            self._weights[key] = made, add_constant(self.graph, f"{original.name or layer.name}.int", values)
        return self._weights[key]

    def _bias(self, layer: Layer, shape: list[int]) -> ir.Value | None:
        inputs = layer.node.inputs
        bias = constant_of(inputs[2]) if len(inputs) > 2 else None
        if bias is None:
            return None
        if is_onnx(layer.node, "Gemm"):
            bias = bias * np.float32(layer.node.attributes.get_float("beta", 1.0))
        return add_constant(self.graph, f"{layer.name}.bias", bias.reshape(shape) if bias.ndim == 1 else bias)

    def _replace(self, node: ir.Node, made: list[ir.Node]) -> None:
        """The last of the new nodes makes what ``node`` made, under its name."""
        old, new = node.outputs[0], made[-1].outputs[0]
        name, kind, shape = old.name, old.type, old.shape
        self.graph.insert_after(node, made)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        new.name, new.type, new.shape = name, kind, shape
