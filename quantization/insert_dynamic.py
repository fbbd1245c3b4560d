"""Layers whose data is quantized while the model runs, by the range that it has then.

Matrix products take a scale and a zero point for each row (each token has its own): uint8, MatMulInteger, less the
zero point times the sums of the weights, scales of rows and output channels, the bias in float. Convolutions take one
scale and zero point for the whole tensor, as ONNX Runtime's tools do: DynamicQuantizeLinear and ConvInteger.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..errors import UsageError
from .graph_tensors import add_constant, constant_of, insert_after, is_onnx, opset_of, reduction
from .layers import Layer
from .parameters import SMALLEST, IntegerWeight, quantize_weight
from .plan import Plan

LEVELS = 255
"""Steps between the least and the largest number of a row."""

SINCE = 11
"""The first opset with DynamicQuantizeLinear."""


def insert_dynamic(model: ir.Model, plan: Plan) -> None:
    """Rewrite the plan's layers in place. Raises UsageError for a model of an opset that is too old."""
    if plan.layers and opset_of(model) < SINCE:
        raise UsageError(
            f"dynamic quantization needs opset {SINCE}, the model has {opset_of(model)}",
            hint="quantize it statically (--quantize int8 --calibrate DATA), or export it with a newer opset",
        )
    writer = _Writer(model)
    for layer in plan.layers:
        writer.rewrite(layer)


class _Writer:
    def __init__(self, model: ir.Model):
        self.model, self.graph = model, model.graph
        self._quantized: dict[tuple[ir.Value, bool], list[ir.Value]] = {}
        self._weights: dict[tuple[str, int, bool], tuple[IntegerWeight, ir.Value]] = {}

    def rewrite(self, layer: Layer) -> None:
        node, name = layer.node, layer.name
        data, scale, zero = self._data(layer.data, rows=not is_onnx(node, "Conv"))
        weight, integers = self._weight(layer)
        shape = [1, -1] + [1] * (layer.weight.ndim - 2) if is_onnx(node, "Conv") else [-1]
        scales = add_constant(self.graph, f"{name}.scales", weight.scales.reshape(shape))
        if is_onnx(node, "Conv"):
            attributes = [ir.Attr(a.name, a.type, a.value) for a in node.attributes.values()]
            sums = ir.Node("", "ConvInteger", [data, integers, zero], attributes, outputs=[self._new(name, "sums")])
        else:
            sums = ir.node("MatMulInteger", [data, integers], outputs=[self._new(name, "sums")])
        real = ir.node("Cast", [sums.outputs[0]], {"to": int(ir.DataType.FLOAT)}, outputs=[self._new(name, "real")])
        made = [sums, real]
        if not is_onnx(node, "Conv"):
            made += self._less_zero(name, real.outputs[0], zero, weight)
        # One factor after the other: ONNX Runtime takes a product of both for that of a scalar and a vector.
        by_data = ir.node("Mul", [made[-1].outputs[0], scale], outputs=[self._new(name, "by_data")])
        last = ir.node("Mul", [by_data.outputs[0], scales], outputs=[self._new(name, "scaled")])
        made += [by_data, last]
        bias = self._bias(layer, shape)
        if bias is not None:
            last = ir.node("Add", [last.outputs[0], bias], outputs=[self._new(name, "biased")])
            made.append(last)
        self._replace(node, made)

    def _less_zero(self, name: str, sums: ir.Value, zero: ir.Value, weight: IntegerWeight) -> list[ir.Node]:
        """Sums of ``(data - zero) * weight``, each row with its own zero point: MatMulInteger takes but one.

        In float32, which is exact up to 2**24, like the sums themselves.
        """
        columns = weight.values.astype(np.int32).sum(1 - weight.axis, dtype=np.int32).astype(np.float32)
        totals = add_constant(self.graph, f"{name}.totals", columns)
        excess = ir.node("Mul", [zero, totals], outputs=[self._new(name, "excess")])
        return [excess, ir.node("Sub", [sums, excess.outputs[0]], outputs=[self._new(name, "less_zero")])]

    def _new(self, name: str, what: str) -> ir.Value:
        return ir.Value(name=f"{name}.{what}")

    def _data(self, value: ir.Value, rows: bool) -> list[ir.Value]:
        """(uint8, scale, zero point); layers that read the same value share them."""
        if (value, rows) not in self._quantized:
            nodes, made = round_rows(self.model, value) if rows else round_tensor(value)
            insert_after(self.graph, value, nodes)
            self._quantized[value, rows] = made
        return self._quantized[value, rows]

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


def round_tensor(value: ir.Value, suffix: str = "") -> tuple[list[ir.Node], list[ir.Value]]:
    """Nodes that round a value by its range, and (uint8, scale, zero point)."""
    made = [ir.Value(name=f"{value.name}.{part}{suffix}") for part in ("quantized", "scale", "zero")]
    return [ir.node("DynamicQuantizeLinear", [value], outputs=made)], made


def round_rows(model: ir.Model, value: ir.Value, suffix: str = "") -> tuple[list[ir.Node], list[ir.Value]]:
    """Nodes that round each row (all but the last axis) by its range with 0, and (uint8, scale, zero point).

    Scale and zero point (whole, in float32) have the value's rank, their last dim is 1; a row of zeros has the least
    scale.
    """
    graph, nodes = model.graph, []

    def output(part: str) -> ir.Value:
        return ir.Value(name=f"{value.name}.{part}{suffix}")

    def apply(op_type: str, part: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        nodes.append(ir.node(op_type, list(inputs), attributes or None, outputs=[output(part)]))
        return nodes[-1].outputs[0]

    def number(part: str, number: float) -> ir.Value:
        return add_constant(graph, f"{value.name}.{part}{suffix}", np.array(number, np.float32))

    def extreme(op_type: str, part: str) -> ir.Value:
        nodes.append(reduction(model, f"Reduce{op_type}", value, [-1], True, output(f"{part}_of_row")))
        return apply(op_type, part, nodes[-1].outputs[0], none)

    none, levels = number("none", 0), number("levels", LEVELS)
    low, high = extreme("Min", "low"), extreme("Max", "high")
    share = apply("Mul", "share", apply("Sub", "range", high, low), number("step", 1 / LEVELS))
    scale = apply("Max", "scale", share, number("least", SMALLEST))
    zero = apply("Round", "zero", apply("Div", "below", apply("Neg", "depth", low), scale))
    moved = apply("Add", "moved", apply("Round", "steps", apply("Div", "quotient", value, scale)), zero)
    held = apply("Min", "held", apply("Max", "raised", moved, none), levels)  # both may be rounded up
    integers = apply("Cast", "quantized", held, to=int(ir.DataType.UINT8))
    return nodes, [integers, scale, zero]
