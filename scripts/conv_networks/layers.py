"""Layers of convolutional networks, which know how many channels each value has."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from zoo_models.graph import Graph

OPSET, CLASSES = 17, 1000
Sizes = int | Sequence[int]


class Layers:
    """A network in the making from the input ``x`` [batch, channels, spatial...]; weights follow from the name."""

    def __init__(self, name: str, channels: int, rank: int = 2):
        self.name, self.rank, self.graph = name, rank, Graph()
        self.channels = {"x": channels}
        self._random = np.random.default_rng(list(name.encode()))
        self._count = 0

    def constant(self, value: npt.ArrayLike) -> str:
        self._count += 1
        return self.graph.constant(f"c{self._count}", value)

    def random(self, *shape: int, scale: float = 1.0) -> str:
        """Normally distributed weights."""
        return self.constant((self._random.standard_normal(shape) * scale).astype(np.float32))

    def floats(self, *values: float) -> str:
        return self.constant(np.array(values, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, op_type: str, x: str, *others: str, channels: int | None = None, **attributes: Any) -> str:
        """Any operator; its result has ``channels``, or as many as ``x``."""
        result = self.graph.node(op_type, x, *others, **attributes)
        self.channels[result] = self.channels[x] if channels is None else channels
        return result

    def conv(
        self,
        x: str,
        outputs: int,
        kernel: Sizes = 3,
        stride: Sizes = 1,
        group: int = 1,
        dilation: int = 1,
        act: str = "relu",
        pads: Sequence[int] | None = None,
    ) -> str:
        """With bias and an activation; ``pads`` keep the size at stride 1 by default."""
        inputs, kernels = self.channels[x] // group, self._each(kernel)
        around = [(k - 1) * dilation // 2 for k in kernels]
        y = self.node(
            "Conv",
            x,
            self.random(outputs, inputs, *kernels, scale=(2 / (inputs * math.prod(kernels))) ** 0.5),
            self.random(outputs, scale=0.1),
            channels=outputs,
            kernel_shape=kernels,
            strides=self._each(stride),
            pads=list(pads) if pads is not None else [*around, *around],
            dilations=[dilation] * self.rank,
            group=group,
        )
        return self.act(y, act)

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1, act: str = "relu") -> str:
        channels = self.channels[x]
        return self.conv(x, channels, kernel, stride, group=channels, act=act)

    def transposed(self, x: str, outputs: int, kernel: int = 2, stride: int = 2, act: str = "none") -> str:
        """A transposed convolution that enlarges by ``stride``; ``kernel`` - ``stride`` must be even."""
        inputs, around = self.channels[x], (kernel - stride) // 2
        weight = self.random(inputs, outputs, *[kernel] * self.rank, scale=(stride / (inputs * kernel)) ** 0.5)
        window: dict[str, Any] = {"kernel_shape": [kernel] * self.rank, "strides": [stride] * self.rank}
        pads = [around] * (2 * self.rank)
        bias = self.random(outputs, scale=0.1)
        return self.act(self.node("ConvTranspose", x, weight, bias, channels=outputs, pads=pads, **window), act)

    def act(self, x: str, kind: str) -> str:
        """Activations in the pieces that exporters write."""
        if kind == "none":
            return x
        if kind == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        if kind == "gelu":
            erf = self.node("Erf", self.node("Div", x, self.constant(np.float32(2**0.5))))
            y = self.node("Mul", x, self.node("Add", erf, self.constant(np.float32(1))))
            return self.node("Mul", y, self.constant(np.float32(0.5)))
        if kind == "relu6":
            return self.node("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))
        if kind == "leaky":
            return self.node("LeakyRelu", x, alpha=0.1)
        if kind == "prelu":
            slope = np.full((self.channels[x], *[1] * self.rank), 0.25, np.float32)
            return self.node("PRelu", x, self.constant(slope))
        if kind == "mish":
            return self.node("Mul", x, self.node("Tanh", self.node("Softplus", x)))
        names = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "hardswish": "HardSwish"}
        return self.node({**names, "hardsigmoid": "HardSigmoid", "elu": "Elu"}[kind], x)

    def batch_norm(self, x: str, act: str = "relu") -> str:
        shape = (self.channels[x],)
        parts = (self._random.random(shape) + 0.5, self._random.random(shape) - 0.5, self._random.random(shape) - 0.5,
                 self._random.random(shape) + 0.5)  # fmt: skip
        return self.act(self.node("BatchNormalization", x, *[self.constant(p.astype(np.float32)) for p in parts]), act)

    def instance_norm(self, x: str, act: str = "relu") -> str:
        scale, bias = self.random(self.channels[x]), self.random(self.channels[x])
        return self.act(self.node("InstanceNormalization", x, scale, bias), act)

    def layer_norm(self, x: str, channels: int) -> str:
        """Over the last axis."""
        scale, bias = self.random(channels), self.random(channels)
        return self.node("LayerNormalization", x, scale, bias, axis=-1)

    def linear(self, x: str, inputs: int, outputs: int, act: str = "none") -> str:
        """Over the last axis, as MatMul and Add."""
        y = self.node("MatMul", x, self.random(inputs, outputs, scale=inputs**-0.5))
        return self.act(self.node("Add", y, self.random(outputs, scale=0.1)), act)

    def squeeze_excite(self, x: str, hidden: int, act: str = "relu", gate: str = "sigmoid") -> str:
        y = self.conv(self.node("GlobalAveragePool", x), hidden, 1, act=act)
        return self.node("Mul", x, self.conv(y, self.channels[x], 1, act=gate))

    def pool(self, x: str, kernel: int = 2, stride: int = 2, pad: int = 0, kind: str = "MaxPool") -> str:
        window: dict[str, Any] = {"kernel_shape": [kernel] * self.rank, "strides": [stride] * self.rank}
        return self.node(kind, x, pads=[pad] * (2 * self.rank), **window)

    def add(self, x: str, y: str, act: str = "none") -> str:
        return self.act(self.node("Add", x, y), act)

    def concat(self, *values: str) -> str:
        return self.node("Concat", *values, channels=sum(self.channels[value] for value in values), axis=1)

    def split(self, x: str, *channels: int) -> list[str]:
        """Along the channels, as slices."""
        ends = np.cumsum([0, *channels])
        return [
            self.node("Slice", x, self.ints(int(a)), self.ints(int(b)), self.ints(1), channels=int(b - a))
            for a, b in itertools.pairwise(ends)
        ]

    def enlarge(self, x: str, factor: int = 2, mode: str = "nearest") -> str:
        """By a whole factor: nearest as in torch's Upsample, or linear of half pixels."""
        scales = self.floats(1, 1, *[factor] * self.rank)
        how: dict[str, Any] = {"coordinate_transformation_mode": "half_pixel"}
        if mode == "nearest":
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", x, "", scales, mode=mode, **how)

    def resized_like(self, x: str, other: str, mode: str = "linear") -> str:
        """To the spatial sizes of ``other``, by Shape as exporters write it."""
        spatial = self.node("Shape", other, start=2)
        sizes = self.node("Concat", self.node("Shape", x, start=0, end=2), spatial, axis=0)
        return self.node("Resize", x, "", "", sizes, mode=mode, coordinate_transformation_mode="half_pixel")

    def classifier(self, x: str, classes: int = CLASSES) -> str:
        """Mean over all places and a linear layer."""
        channels = self.channels[x]
        flat = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        weight = self.random(classes, channels, scale=channels**-0.5)
        return self.node("Gemm", flat, weight, self.random(classes), transB=1)

    def model(self, dims: Sequence[int | str], *outputs: str) -> onnx.ModelProto:
        """``dims`` are those of the input; outputs' shapes are inferred."""
        element = onnx.TensorProto.FLOAT
        infos: list[Any] = [(output, element, []) for output in outputs]
        model = self.graph.model(self.name, [("x", element, list(dims))], infos, OPSET)
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        del model.graph.value_info[:]
        return model

    def _each(self, sizes: Sizes) -> list[int]:
        return [sizes] * self.rank if isinstance(sizes, int) else list(sizes)
