"""A read-only view of one ONNX node that converters use: attributes with defaults, names for messages."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir


class Node:
    """Wraps an ``onnx_ir.Node``; ``where`` is the path of (sub)graphs that the node is in."""

    def __init__(self, node: ir.Node, where: str, opset: int):
        self.ir = node
        self.where = where
        self.opset = opset

    @property
    def op_type(self) -> str:
        return self.ir.op_type

    @property
    def domain(self) -> str:
        return "" if self.ir.domain == "ai.onnx" else self.ir.domain

    @property
    def name(self) -> str:
        """The node's own name, or its first named output where exporters left it empty."""
        return self.ir.name or next((value.name for value in self.ir.outputs if value.name), "(unnamed)")

    @property
    def output_count(self) -> int:
        return len(self.ir.outputs)

    def has_output(self, index: int) -> bool:
        """Whether anything reads output ``index``: optional ones may be left out, or named in vain."""
        if index >= len(self.ir.outputs):
            return False
        value = self.ir.outputs[index]
        return bool(value.name) and (bool(value.uses()) or value.is_graph_output())

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute's value: int, float, str, list of them, numpy array (tensors) or ``onnx_ir.Graph``."""
        attribute = self.ir.attributes.get(name)
        if attribute is None:
            return default
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            return value.numpy()
        if isinstance(value, bytes):
            return value.decode()
        return list(value) if isinstance(value, tuple) else value

    def __str__(self) -> str:
        return f"{self.where}: node {self.name!r} ({self.domain or 'ai.onnx'}.{self.op_type}, opset {self.opset})"
