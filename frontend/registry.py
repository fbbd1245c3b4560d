"""Converters by (domain, operator, opset): the one table that says what the frontend can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .values import Value

if TYPE_CHECKING:
    from .context import Context
    from .node import Node

Converter = Callable[["Context", "Node", Sequence["Value | None"]], "Value | Sequence[Value]"]
"""Takes the context, the node and its inputs (None for an omitted one); returns one value or one per output."""

_CONVERTERS: dict[tuple[str, str], dict[int, Converter]] = {}


def converter(*op_types: str, since: int = 1, domain: str = "") -> Callable[[Converter], Converter]:
    """Register a converter for operators whose definition it follows from opset ``since`` on."""

    def register(function: Converter) -> Converter:
        for op_type in op_types:
            versions = _CONVERTERS.setdefault((domain, op_type), {})
            if since in versions:
                raise ValueError(f"two converters for {domain or 'ai.onnx'}.{op_type} since opset {since}")
            versions[since] = function
        return function

    return register


def lookup(domain: str, op_type: str, opset: int) -> Converter | None:
    """The converter with the highest ``since`` that is not above ``opset``, or None."""
    versions = _CONVERTERS.get((domain, op_type), {})
    fitting = [since for since in versions if since <= opset]
    return versions[max(fitting)] if fitting else None


def registered() -> set[tuple[str, str]]:
    """All (domain, operator) pairs with a converter of our own."""
    return set(_CONVERTERS)
