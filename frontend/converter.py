"""Walks a normalised ONNX graph and builds the Relax function ``main``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from tvm import relax, tirx

from ..contract import TensorSpec
from ..errors import ConversionError, KilnError, UnsupportedNode, UnsupportedOperators
from . import fallback, folding, ops, symbolic
from .branch_ranks import BranchesDiffer, choose
from .context import Context
from .node import Node
from .registry import lookup
from .values import Value

__all__ = ["GraphConverter", "find_unsupported"]
ops.load_all()


def _opset(imports: Mapping[str, int], node: ir.Node) -> int | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return imports.get(domain, imports.get("ai.onnx") if domain == "" else None)


def find_unsupported(graph: ir.Graph, imports: Mapping[str, int], where: str = "main") -> list[UnsupportedNode]:
    """Every node, subgraphs included, that nothing here can convert."""
    found = []
    for ir_node in graph:
        opset = _opset(imports, ir_node)
        node = Node(ir_node, where, opset or 0)
        if opset is None:
            reason = f"the model imports no opset of domain {ir_node.domain!r}"
            found.append(UnsupportedNode(node.name, node.op_type, node.domain, None, where, reason))
        elif lookup(node.domain, node.op_type, opset) is None and not fallback.covers(node):
            found.append(UnsupportedNode(node.name, node.op_type, node.domain, opset, where))
        for name, attribute in ir_node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH:
                found += find_unsupported(attribute.as_graph(), imports, f"{where}/{node.name}.{name}")
    return found


class GraphConverter:
    """Converts one model; ``environment`` maps ONNX value names to values, inner graphs see the outer names."""

    def __init__(self, builder: relax.BlockBuilder, opset_imports: Mapping[str, int]):
        self.context = Context(builder)
        self.context.converter = self
        self.opset_imports = opset_imports
        self.environment: dict[str, Value] = {}
        self.chosen_branches: dict[ir.Node, str] = {}

    def run(self, graph: ir.Graph, where: str = "main") -> list[Value]:
        """Convert all nodes of ``graph``; its inputs are in the environment already. Returns the outputs' values."""
        for name, initializer in graph.initializers.items():
            if name not in self.environment and initializer.const_value is not None:
                self.environment[name] = initializer.const_value.numpy()
        return self._run_from(graph, list(graph), 0, where)

    def _run_from(self, graph: ir.Graph, nodes: Sequence[ir.Node], start: int, where: str) -> list[Value]:
        for place in range(start, len(nodes)):
            opset = _opset(self.opset_imports, nodes[place])
            assert opset is not None, "find_unsupported has refused these"
            node = Node(nodes[place], where, opset)
            try:
                self._convert(node)
            except BranchesDiffer as error:
                if not self._choose_branch(graph, nodes, place, where):
                    raise ConversionError(error.message, hint=error.hint) from error
                self._convert(node)
        return [self.environment[value.name or ""] for value in graph.outputs]

    def _choose_branch(self, graph: ir.Graph, nodes: Sequence[ir.Node], place: int, where: str) -> bool:
        """Whether just one branch of an If fits what follows; it is then the one to take."""

        def follow(name: str) -> list[Value]:
            self.chosen_branches[nodes[place]] = name
            return self._run_from(graph, nodes, place, where)

        chosen = choose(self, graph, follow)
        del self.chosen_branches[nodes[place]]
        if chosen is not None:
            self.chosen_branches[nodes[place]] = chosen
        return chosen is not None

    def _convert(self, node: Node) -> None:
        inputs = [
            self.environment[value.name] if value is not None and value.name else None for value in node.ir.inputs
        ]
        try:
            results = self._dispatch(node, inputs)
        except UnsupportedOperators:
            raise
        except BranchesDiffer as error:
            raise BranchesDiffer(f"{node}: {error.message}", hint=error.hint) from error
        except KilnError as error:
            raise ConversionError(f"{node}: {error.message}", hint=error.hint) from error
        except MemoryError:
            raise
        except Exception as error:  # whatever a converter, TVM or NumPy trips over: the node is what a user can change
            raise ConversionError(f"{node}: {_first_words(error)}") from error
        for value, result in zip(node.ir.outputs, results, strict=False):
            if value.name:
                self.environment[value.name] = result

    def _dispatch(self, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
        folded = folding.fold(node, inputs)
        if folded is not None:
            return folded
        evaluated = symbolic.evaluate(self.context, node, inputs)
        if evaluated is not None:
            return evaluated
        convert = lookup(node.domain, node.op_type, node.opset)
        if convert is None:
            return fallback.convert(self.context, node, inputs)
        result = convert(self.context, node, inputs)
        return list(result) if isinstance(result, list | tuple) else [result]


SPEAKING = (AssertionError, ValueError, TypeError, NotImplementedError, RuntimeError)
"""Errors whose words stand for themselves; a KeyError's are a key."""


def _first_words(error: Exception) -> str:
    """The line of an error that says something, without TVM's native stack; the error's kind where that says more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("File ", "Stack trace", "[bt]"))]
    kind = type(error).__name__
    if not telling:
        return kind
    return (telling[-1] if isinstance(error, SPEAKING) else f"{kind}: {telling[-1]}")[:500]


def symbolic_inputs(inputs: Sequence[TensorSpec], dims: Mapping[str, tirx.Var]) -> list[tuple[str, relax.Var]]:
    """Relax parameters by the inputs' names; that of a sequence is any object of the runtime's."""
    made: list[tuple[str, relax.Var]] = []
    for index, spec in enumerate(inputs):
        sizes: list[Any] = [dims[dim] if isinstance(dim, str) else tirx.const(dim, "int64") for dim in spec.shape]
        identifier = "".join(c if c.isalnum() else "_" for c in spec.name) or f"input_{index}"
        ty = relax.ObjectType() if spec.sequence else relax.TensorType(sizes, spec.dtype)
        made.append((spec.name, relax.Var(f"in_{identifier}", ty)))
    return made
