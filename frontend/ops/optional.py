"""Optional values: https://onnx.ai/onnx/operators/onnx__Optional.html and siblings.

Inside a graph it is known when compiling whether there is a value, as no choice between an empty optional and a full
one is taken here: nothing of them is left in the compiled model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter


@dataclass(frozen=True)
class OptionalValue:
    """A tensor or a sequence, or None for an optional without a value."""

    value: Any


@converter("Optional")
def optional(_ctx: Context, _node: Node, inputs: Sequence[Any]) -> Any:
    return OptionalValue(inputs[0] if inputs else None)


@converter("OptionalHasElement")
def has_element(_ctx: Context, _node: Node, inputs: Sequence[Any]) -> Any:
    given = inputs[0] if inputs else None
    return np.array((given.value if isinstance(given, OptionalValue) else given) is not None)


@converter("OptionalGetElement")
def get_element(_ctx: Context, _node: Node, inputs: Sequence[Any]) -> Any:
    given = inputs[0].value if isinstance(inputs[0], OptionalValue) else inputs[0]
    if given is None:
        raise ConversionError("the optional has no value")
    return given
