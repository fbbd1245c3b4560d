"""Constant folding while converting: a node whose inputs are all known is run once by ONNX's reference evaluator.

Normalisation has folded what the file alone decides. What is left are constants that appear only when dims are
fixed, such as the ``Shape`` of an input whose sizes the user gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from .node import Node
from .values import Value, tensor_shape

MAX_BYTES = 64 << 20
"""Results past this are left to the compiled model: folding must not blow up a file into memory."""

_NOT_FOLDED = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
    "If", "Loop", "Scan", "SequenceMap", "Dropout",
}  # fmt: skip


def fold(node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """The outputs of a node that needs nothing from run time, else None."""
    if node.op_type == "Constant" and node.domain == "":
        return [_constant(node)]
    if node.op_type == "Shape" and node.domain == "" and inputs[0] is not None:
        return _static_shape(node, inputs[0])
    if not inputs or node.op_type in _NOT_FOLDED or not all(v is None or isinstance(v, np.ndarray) for v in inputs):
        return None
    known = [value for value in inputs if isinstance(value, np.ndarray)]
    if not known or sum(value.nbytes for value in known) > MAX_BYTES:
        return None
    return _evaluate(node, inputs)


def _constant(node: Node) -> np.ndarray:
    (name, attribute), *_ = node.ir.attributes.items()
    if name == "value":
        return attribute.value.numpy()
    dtype = np.float32 if "float" in name else np.int64 if "int" in name else object
    return np.array(attribute.value, dtype=dtype)


def _static_shape(node: Node, value: Value) -> list[Value] | None:
    dims = tensor_shape(value)[node.attr("start", 0) : node.attr("end", None)]
    return [np.array(dims, np.int64)] if all(isinstance(dim, int) for dim in dims) else None


def _evaluate(node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    proto = ir.to_proto(node.ir)
    feeds = {name: value for name, value in zip(proto.input, inputs, strict=True) if name}
    names = [name for name in proto.output if name]
    graph = onnx.helper.make_graph(
        [proto],
        "fold",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names],
    )
    opsets = [onnx.helper.make_opsetid(node.domain, node.opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    try:
        results = dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))
    except Exception:  # the evaluator lacks the operator or this case of it: the converter decides
        return None
    if not all(isinstance(result, np.ndarray | np.generic) for result in results.values()):
        return None
    return [np.asarray(results[name]) if name else np.empty(0) for name in proto.output]
