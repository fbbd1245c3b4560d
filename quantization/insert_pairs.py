"""Pairs of QuantizeLinear and DequantizeLinear around integer nodes: the standard form of a quantized model (QDQ)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from .graph_tensors import add_constant, insert_after, insert_first, opset_of
from .layers import Layer
from .parameters import Affine8, IntegerWeight, quantize_bias, quantize_weight, scales_for_bias
from .plan import Plan

PER_CHANNEL_SINCE = 13
"""ONNX's own operators have scales along an axis from this opset on; com.microsoft's always had."""

CONTRIB = "com.microsoft"


@dataclass
class Inserted:
    """What went in: integer weights by layer."""

    weights: dict[str, IntegerWeight] = field(default_factory=dict)


def insert_pairs(model: ir.Model, plan: Plan, scales: Mapping[str, Affine8], per_channel: bool = True) -> Inserted:
    """Rewrite the graph in place; ``scales`` has every value of ``plan.measured`` by name."""
    return _Writer(model, plan, scales, per_channel).run()


class _Writer:
    def __init__(self, model: ir.Model, plan: Plan, scales: Mapping[str, Affine8], per_channel: bool):
        self.graph = model.graph
        self.plan = plan
        self.scales = scales
        self.per_channel = per_channel
        self.inserted = Inserted()
        self.domain = "" if opset_of(model) >= PER_CHANNEL_SINCE else CONTRIB
        self._written: dict[tuple[str, int, bytes], tuple[IntegerWeight, ir.Value]] = {}
        if self.domain:
            model.opset_imports.setdefault(CONTRIB, 1)

    def run(self) -> Inserted:
        scale_of = {value: self._scale(value) for value in self.plan.values}
        for layer in self.plan.layers:
            self._weights(layer, scale_of[layer.data])
        for value, affine in scale_of.items():
            self._activation(value, affine)
        return self.inserted

    def _scale(self, value: ir.Value) -> Affine8:
        return self.scales[self.plan.same_scale.get(value, value).name or ""]

    def _activation(self, value: ir.Value, affine: Affine8) -> None:
        name = value.name or "value"
        scale = add_constant(self.graph, f"{name}.scale", np.array(affine.scale, np.float32))
        zero = add_constant(self.graph, f"{name}.zero", np.array(affine.zero, np.uint8))
        quantize = self._node("QuantizeLinear", [value, scale, zero], f"{name}.quantized")
        dequantize = self._node("DequantizeLinear", [quantize.outputs[0], scale, zero], f"{name}.rounded")
        readers = set(self.plan.readers[value])
        for use in list(value.uses()):
            if use.node in readers:
                use.node.replace_input_with(use.idx, dequantize.outputs[0])
        insert_after(self.graph, value, [quantize, dequantize])

    def _weights(self, layer: Layer, data: Affine8) -> None:
        original = layer.node.inputs[1]
        assert original is not None
        least = None if layer.bias is None else scales_for_bias(layer.bias, data.scale)
        made = quantize_weight(layer.weight, layer.axis, self.per_channel, least)
        key = (original.name or "", layer.axis, made.scales.tobytes())
        if key not in self._written:
            # A tensor that several layers share is stored once.
            self._written[key] = made, self._write_weight(made, original.name or layer.name)
        weight, real = self._written[key]
        self.inserted.weights[layer.name] = weight
        layer.node.replace_input_with(1, real)
        if layer.bias is None:
            return
        by = (np.float32(data.scale) * weight.scales).astype(np.float32)
        integers = quantize_bias(layer.bias, by)
        parts = (("int", integers), ("scale", by))
        values = [add_constant(self.graph, f"{layer.name}.bias.{part}", array) for part, array in parts]
        node = self._node("DequantizeLinear", values, f"{layer.name}.bias.real", axis=0)
        self.graph.insert_before(layer.node, node)
        layer.node.replace_input_with(2, node.outputs[0])

    def _write_weight(self, weight: IntegerWeight, name: str) -> ir.Value:
        zeros = np.zeros(weight.scales.shape, np.int8)
        parts = (("int", weight.values), ("scale", weight.scales), ("zero", zeros))
        values = [add_constant(self.graph, f"{name}.{part}", array) for part, array in parts]
        node = self._node("DequantizeLinear", values, f"{name}.real", axis=weight.axis)
        insert_first(self.graph, [node])
        return node.outputs[0]

    def _node(self, op_type: str, inputs: list[ir.Value], output: str, **attributes: int) -> ir.Node:
        made = ir.Value(name=output)
        return ir.node(op_type, inputs, attributes or None, domain=self.domain, outputs=[made], name=f"{output}.node")
