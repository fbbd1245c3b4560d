"""How much noise the integers of each layer add, measured for all layers in one float model.

Beside every layer stands a copy that reads rounded data and rounded weights; both get the same input, so that a layer
doesn't answer for those before it. The model's outputs are sums of squares, of each layer's result and of the
difference, and the shape of what the layer reads; then the mean difference of each channel, for layers with biases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .correct_biases import correctable
from .graph_tensors import add_constant, insert_after, is_onnx, node_name, opset_of, reduction
from .insert_dynamic import round_rows, round_tensor
from .insert_pairs import CONTRIB, PER_CHANNEL_SINCE
from .layers import Layer
from .parameters import Affine8, quantize_weight
from .plan import Plan


@dataclass
class Noise:
    """Sums of squares over all samples: of the float result and of what the integers change in it.

    ``shape`` is that of the layer's data in the last sample; ``shift`` the sum over samples of the mean difference of
    each output channel, None for a layer without a bias to correct.
    """

    signal: float = 0.0
    error: float = 0.0
    shape: tuple[int, ...] = ()
    shift: np.ndarray | None = None
    samples: int = 0

    @property
    def decibels(self) -> float:
        """The ratio of signal to quantization noise (SQNR); infinite without noise."""
        if not self.error:
            return math.inf
        return 10 * math.log10(self.signal / self.error) if self.signal else -math.inf


def scaled_by(plan: Plan, value: ir.Value) -> str:
    """The name of the value whose scale ``value`` has."""
    return plan.same_scale.get(value, value).name or ""


def add_copies(model: ir.Model, plan: Plan, scales: Mapping[str, Affine8] | None) -> dict[str, Noise]:
    """Rewrite in place; the outputs are (signal, error, shape) of each layer in turn, then the shifts of those that
    ``add_up`` is to expect them of: the layers whose ``shift`` isn't None. Returns the layers' noise by name.

    Without ``scales`` data is rounded as in dynamic quantization.
    """
    rounded: dict[tuple[ir.Value, bool], ir.Value] = {}
    outputs: list[ir.Value] = []
    shifts: list[ir.Value] = []
    noises: dict[str, Noise] = {}
    for layer in plan.layers:
        rows = scales is None and not is_onnx(layer.node, "Conv")
        if (layer.data, rows) not in rounded:
            rounded[layer.data, rows] = (
                _round_dynamically(model, layer.data, rows)
                if scales is None
                else _round(model, layer.data, layer.data.name or "", scales[scaled_by(plan, layer.data)])
            )
        copy = _copy(model.graph, layer, rounded[layer.data, rows])
        sizes = ir.Value(name=f"{layer.name}.shape.measured", type=ir.TensorType(ir.DataType.INT64), shape=_UNKNOWN)
        shape = ir.node("Shape", [layer.data], outputs=[sizes])
        model.graph.insert_after(copy, shape)
        difference, sums = _sums(model.graph, layer.node, copy)
        outputs += [*sums, shape.outputs[0]]
        noises[layer.name] = Noise()
        if correctable(layer):
            noises[layer.name].shift = np.zeros(layer.weight.shape[layer.axis])
            shifts.append(_mean(model, difference, layer))
    model.graph.outputs[:] = outputs + shifts
    return noises


MARK = ".measured"

_UNKNOWN = ir.Shape([None])


def _round(model: ir.Model, value: ir.Value, name: str, affine: Affine8) -> ir.Value:
    """``value`` rounded by one scale for all of it."""
    domain = "" if opset_of(model) >= PER_CHANNEL_SINCE else CONTRIB
    if domain:
        model.opset_imports.setdefault(CONTRIB, 1)
    parameters = [
        add_constant(model.graph, f"{name}.scale.measured", np.array(affine.scale, np.float32)),
        add_constant(model.graph, f"{name}.zero.measured", np.array(affine.zero, np.uint8)),
    ]
    output = ir.Value(name=f"{name}.quantized.measured")
    quantize = ir.node("QuantizeLinear", [value, *parameters], domain=domain, outputs=[output])
    real = ir.Value(name=f"{name}.rounded.measured")
    dequantize = ir.node("DequantizeLinear", [output, *parameters], domain=domain, outputs=[real])
    insert_after(model.graph, value, [quantize, dequantize])
    return real


def _round_dynamically(model: ir.Model, value: ir.Value, rows: bool) -> ir.Value:
    """``value`` rounded as dynamic quantization does: by the range of the whole, or of each row."""
    nodes, (integers, scale, zero) = round_rows(model, value, MARK) if rows else round_tensor(value, MARK)
    made = [
        ir.Value(name=f"{value.name}.{part}{MARK}") for part in ("integers", "middle_real", "steps_real", "rounded")
    ]
    to = {"to": int(ir.DataType.FLOAT)}
    nodes += [
        ir.node("Cast", [integers], to, outputs=made[:1]),
        ir.node("Cast", [zero], to, outputs=made[1:2]),
        ir.node("Sub", made[:2], outputs=made[2:3]),
        ir.node("Mul", [made[2], scale], outputs=made[3:]),
    ]
    insert_after(model.graph, value, nodes)
    return made[3]


def _copy(graph: ir.Graph, layer: Layer, data: ir.Value) -> ir.Node:
    real = quantize_weight(layer.weight, layer.axis).real()
    weight = add_constant(graph, f"{layer.name}.weight.measured", real)
    output = ir.Value(name=f"{layer.name}.measured")
    inputs = [data, weight, *layer.node.inputs[2:]]
    attributes = [ir.Attr(a.name, a.type, a.value) for a in layer.node.attributes.values()]
    copy = ir.Node(
        "", layer.node.op_type, inputs, attributes, outputs=[output], name=f"{node_name(layer.node)}.measured"
    )
    graph.insert_after(layer.node, copy)
    return copy


def _mean(model: ir.Model, difference: ir.Node, layer: Layer) -> ir.Value:
    """The mean of each channel: axis 1 of what convolutions and Gemm give."""
    axes = [axis for axis in range(layer.weight.ndim) if axis != 1]
    kind = ir.TensorType(ir.DataType.FLOAT)
    output = ir.Value(name=f"{layer.name}.shift.measured", type=kind, shape=ir.Shape([layer.weight.shape[layer.axis]]))
    node = reduction(model, "ReduceMean", difference.outputs[0], axes, False, output)
    model.graph.insert_after(difference, node)
    return output


def _sums(graph: ir.Graph, node: ir.Node, copy: ir.Node) -> tuple[ir.Node, list[ir.Value]]:
    name = f"{copy.outputs[0].name}"
    difference = ir.node("Sub", [copy.outputs[0], node.outputs[0]], outputs=[ir.Value(name=f"{name}.difference")])
    made = [difference]
    for what, value in (("signal", node.outputs[0]), ("error", difference.outputs[0])):
        output = ir.Value(name=f"{name}.{what}", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(()))
        made.append(ir.node("ReduceSumSquare", [value], {"keepdims": 0}, outputs=[output]))
    graph.insert_after(copy, made)
    return difference, [node.outputs[0] for node in made[1:]]


def add_up(noises: Mapping[str, Noise], outputs: Sequence[np.ndarray]) -> None:
    """Add one run's outputs to what the layers have."""
    mine, shifts = outputs[: 3 * len(noises)], iter(outputs[3 * len(noises) :])
    for noise, signal, error, shape in zip(noises.values(), mine[0::3], mine[1::3], mine[2::3], strict=True):
        noise.signal += float(signal)
        noise.error += float(error)
        noise.shape = tuple(int(size) for size in shape)
        noise.samples += 1
        if noise.shift is not None:
            noise.shift = noise.shift + next(shifts)
