"""Operators that ONNX itself defines by smaller ones: where we have no converter, their body takes the node's place.

https://onnx.ai/onnx/repo-docs/IR.html#functions. Some bodies depend on attributes and on the types of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from ..errors import ConversionError
from . import fallback, ops
from .node import Node
from .registry import lookup

ops.load_all()

_DOMAIN = "onnxkiln.bodies"
ALIKE = {"Attention": {"T2": "T1"}}
"""Type variables that an operator's text tells apart, and its body doesn't."""

MAX_ROUNDS = 8
"""Bodies may hold operators that have bodies again; ONNX nests them three deep."""


def inline_function_bodies(model: ir.Model) -> ir.Model:
    """Replace, in place, nodes without a converter by their body, if all that the body holds can be converted.

    Nodes for which that fails stay, to be reported by their own name.
    """
    refused: set[ir.Node] = set()
    for _ in range(MAX_ROUNDS):
        found = [node for node in _nodes(model.graph) if node not in refused and _needs_body(node, model.opset_imports)]
        if not found:
            break
        for node in found:
            _require_agreeing_types(node, _schema(node, model.opset_imports))
        if any(_schema(node, model.opset_imports).has_context_dependent_function for node in found):
            common.ShapeInferencePass()(model)
        for index, node in enumerate(found):
            body = _body(node, model.opset_imports)
            if body is None or not _convertible(body, model.opset_imports):
                refused.add(node)
            else:
                _call(model, node, body, index)
        common.InlinePass()(model)
        common.RemoveUnusedOpsetsPass()(model)
    return model


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(graph)


def _opset(imports: Mapping[str, int]) -> int:
    return imports.get("", imports.get("ai.onnx", 0))


def _schema(node: ir.Node, imports: Mapping[str, int]) -> Any:
    """The operator's ``OpSchema``; onnx's type stubs don't know its methods about functions."""
    return onnx.defs.get_schema(node.op_type, _opset(imports), "")


def _has_body(op_type: str, imports: Mapping[str, int]) -> bool:
    if not onnx.defs.has(op_type, domain="", max_inclusive_version=_opset(imports)):
        return False
    schema: Any = onnx.defs.get_schema(op_type, _opset(imports), "")
    return bool(schema.has_function or schema.has_context_dependent_function)


def _needs_body(node: ir.Node, imports: Mapping[str, int]) -> bool:
    own_domain = node.domain in ("", "ai.onnx")
    return own_domain and lookup("", node.op_type, _opset(imports)) is None and _has_body(node.op_type, imports)


def _require_agreeing_types(node: ir.Node, schema: Any) -> None:
    """Raises ConversionError where inputs that must be of one type aren't: the body would fail at an inner node."""
    seen: dict[str, tuple[str, ir.DataType]] = {}
    for parameter, value in zip(schema.inputs, node.inputs, strict=False):
        variable = ALIKE.get(node.op_type, {}).get(parameter.type_str, parameter.type_str)
        if value is None or value.dtype is None or variable not in {c.type_param_str for c in schema.type_constraints}:
            continue
        name, dtype = seen.setdefault(variable, (parameter.name, value.dtype))
        if dtype != value.dtype:
            found = f"{name} is {dtype.numpy()}, {parameter.name} is {value.dtype.numpy()}"
            where = node.name or value.name
            message = f"main: node {where!r} ({node.op_type}): inputs of one type are needed; {found}"
            raise ConversionError(message, hint=f"put a Cast before {parameter.name}")


def _body(node: ir.Node, imports: Mapping[str, int]) -> ir.Function | None:
    """The body for this node, or None where ONNX can't make one of what is known about its inputs."""
    schema = _schema(node, imports)
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
    data = b""
    if schema.has_function:
        data = schema.get_function_with_opset_version(_latest(schema.function_opset_versions, imports))
    elif all(value is None or value.dtype is not None for value in node.inputs):
        types = [_type(value).SerializeToString() for value in node.inputs]
        proto = ir.to_proto(node).SerializeToString()
        version = _latest(schema.context_dependent_function_opset_versions, imports)
        data = schema.get_context_dependent_function_with_opset_version(version, proto, types)
    if not data:
        return None
    function = ir.serde.deserialize_function(_with_outputs(onnx.FunctionProto.FromString(data), len(node.outputs)))
    # A body holds for all later opsets until its schema gives another one.
    for domain in list(function.opset_imports):
        function.opset_imports[domain] = imports.get(domain, function.opset_imports[domain])
    return function


def _latest(versions: Sequence[int], imports: Mapping[str, int]) -> int:
    """The newest of a schema's bodies that isn't newer than the model, else the oldest."""
    return max((version for version in versions if version <= _opset(imports)), default=min(versions, default=0))


def _with_outputs(function: onnx.FunctionProto, count: int) -> onnx.FunctionProto:
    """Bodies leave out what the node doesn't use, but still list it: such outputs become copies of the first input."""
    del function.output[count:]
    made = {name for node in function.node for name in node.output}
    for name in function.output:
        if name not in made:
            function.node.append(onnx.helper.make_node("Identity", [function.input[0]], [name]))
    return function


def _type(value: ir.Value | None) -> onnx.TypeProto:
    if value is None or value.dtype is None:
        return onnx.TypeProto()
    dims = None if value.shape is None else [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype), dims)


def _convertible(function: ir.Function, imports: Mapping[str, int]) -> bool:
    return all(_is_supported(node, imports) for node in function.all_nodes())


def _is_supported(node: ir.Node, imports: Mapping[str, int]) -> bool:
    opset = _opset(imports)
    if node.domain not in ("", "ai.onnx"):
        return False
    view = Node(node, "", opset)
    return lookup("", node.op_type, opset) is not None or fallback.covers(view) or _has_body(node.op_type, imports)


def _call(model: ir.Model, node: ir.Node, body: ir.Function, index: int) -> None:
    """Turn the node into a call of a function of the model, which the inliner then resolves."""
    body.domain, body.name = _DOMAIN, f"{node.op_type}_{index}"
    model.functions[body.identifier()] = body
    model.opset_imports[_DOMAIN] = 1
    node.domain, node.op_type, node.overload = body.domain, body.name, ""
