"""Every tensor that a model file holds, wherever it hides, and what its header promises.

Sizes are checked on the protobuf message, before any bytes are read, so that a small hostile file can't make the
compiler reserve memory or look outside of the model's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import onnx
import onnx_ir as ir
from onnx import TensorProto

from ..errors import ModelError

MAX_BYTES = 64 << 30
"""Of all tensors together, unless the caller asks for more."""

MAX_NODES = 1_000_000
MAX_RANK = 64
MAX_CALLS = 100
"""A function that calls itself is deeper than any depth."""


@dataclass(frozen=True)
class Held:
    """One tensor and the place it was found at, for messages."""

    tensor: TensorProto
    where: str


def tensors_of(model: onnx.ModelProto) -> Iterator[Held]:
    """Initializers, sparse ones, attributes, those of subgraphs, functions and training information."""
    yield from _of_graph(model.graph, "the graph")
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node, f"function {function.name!r}")
        for attribute in function.attribute_proto:
            yield from _of_attribute(attribute, f"function {function.name!r}")
    for training in model.training_info:
        yield from _of_graph(training.initialization, "training information")
        yield from _of_graph(training.algorithm, "training information")


def _of_graph(graph: onnx.GraphProto, where: str) -> Iterator[Held]:
    for tensor in graph.initializer:
        yield Held(tensor, f"initializer {tensor.name!r} of {where}")
    for sparse in graph.sparse_initializer:
        yield from _of_sparse(sparse, f"sparse initializer {sparse.values.name!r} of {where}")
    for node in graph.node:
        yield from _of_node(node, where)


def _of_node(node: onnx.NodeProto, where: str) -> Iterator[Held]:
    name = f"node {node.name or ', '.join(node.output)!r} ({node.op_type}) of {where}"
    for attribute in node.attribute:
        yield from _of_attribute(attribute, name)


def _of_attribute(attribute: onnx.AttributeProto, where: str) -> Iterator[Held]:
    place = f"attribute {attribute.name!r} of {where}"
    if attribute.HasField("t"):
        yield Held(attribute.t, place)
    for tensor in attribute.tensors:
        yield Held(tensor, place)
    for sparse in [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else list(attribute.sparse_tensors):
        yield from _of_sparse(sparse, place)
    for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
        yield from _of_graph(graph, place)


def _of_sparse(sparse: onnx.SparseTensorProto, where: str) -> Iterator[Held]:
    yield Held(sparse.values, f"the values of {where}")
    yield Held(sparse.indices, f"the indices of {where}")


def byte_size(held: Held) -> int:
    """The bytes that dtype and dims promise. Raises ModelError for dims or a dtype that can't be."""
    tensor = held.tensor
    if len(tensor.dims) > MAX_RANK or any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{held.where}: the dims {list(tensor.dims)[:8]} can't be those of a tensor")
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{held.where}: unknown element type {tensor.data_type}") from error
    return (prod(tensor.dims) * bits + 7) // 8


def check_tensor(held: Held) -> int:
    """Compare what the file holds inline with what the tensor promises; returns the promised bytes."""
    tensor = held.tensor
    if tensor.data_type == TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    promised = byte_size(held)
    if is_external(tensor):
        return promised
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != promised:
            raise ModelError(f"{held.where}: its dims need {promised} bytes, the file holds {len(tensor.raw_data)}")
        return promised
    held_elements = max(len(getattr(tensor, field)) for field in _TYPED_FIELDS)
    # Complex numbers take two entries; types of less than a byte pack several into one.
    if not _fits(prod(tensor.dims), held_elements, tensor.data_type):
        raise ModelError(f"{held.where}: its dims need {prod(tensor.dims)} elements, the file holds {held_elements}")
    return promised


_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _fits(elements: int, held: int, data_type: int) -> bool:
    if data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return held == 2 * elements
    return held == elements or held == (elements * ir.DataType(data_type).bitwidth + 7) // 8


def is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or bool(tensor.external_data)


def check_tensors(model: onnx.ModelProto, max_bytes: int = MAX_BYTES) -> list[Held]:
    """Check every tensor's header; returns those whose bytes are in other files. Raises ModelError."""
    total, external = 0, []
    for held in tensors_of(model):
        total += check_tensor(held)
        if total > max_bytes:
            raise ModelError(
                f"{held.where}: the model's tensors take more than {max_bytes} bytes",
                hint="raise the limit if the model is one that you trust: --max-bytes (max_bytes=)",
            )
        if is_external(held.tensor):
            external.append(held)
    return external


def count_nodes(model: onnx.ModelProto) -> int:
    """Nodes of the graph and its subgraphs, once each call of a function is replaced by the function's nodes.

    A few functions that each call the one before ten times are a small file with more nodes than memory can hold.
    Raises ModelError when functions call one another more than ``MAX_CALLS`` deep.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    counted: dict[tuple[str, str], int] = {}

    def of(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        return sum(of_node(node, depth) for node in nodes)

    def of_node(node: onnx.NodeProto, depth: int) -> int:
        inner = (graph for a in node.attribute for graph in [a.g, *a.graphs] if graph.node)
        return of_call((node.domain, node.op_type), depth) + sum(of(graph.node, depth) for graph in inner)

    def of_call(key: tuple[str, str], depth: int) -> int:
        if key not in functions:
            return 1
        if key not in counted:
            if depth > MAX_CALLS:
                deep = f"functions call one another more than {MAX_CALLS} deep, or in a circle"
                raise ModelError(f"function {key[1]!r}: {deep}")
            counted[key] = of(functions[key].node, depth + 1)
        return counted[key]

    return of(model.graph.node, 0) + sum(of_call(key, 0) for key in functions)
