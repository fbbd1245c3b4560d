"""The text form of input shapes: ``x=1,3,224,224`` and its open and bounded variants."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .contract import DimRange
from .errors import UsageError

ShapeDim = int | str | DimRange | None
"""A size, a name, a range, or None for what the model itself says."""

_RANGE = re.compile(r"(\d+)\.\.(\d*)")
_NAME = re.compile(r"[^\W\d][\w.:-]*")
_LARGEST = 2**31 - 1
_FORM = (
    "write NAME=DIM,DIM,... where a DIM is a size (224), a name that stays open (batch), a range (1..64 or 1..) "
    "or ? for what the model says"
)


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[ShapeDim, ...]]:
    """Shapes by input name, from texts such as ``x=1..64,3,224,224``; ``x=`` is the shape of a scalar.

    Raises UsageError that quotes the text and the dim it could not read.
    """
    shapes: dict[str, tuple[ShapeDim, ...]] = {}
    for text in texts:
        name, separator, dims = text.rpartition("=")
        if not separator or not name:
            raise UsageError(f"shape {text!r} names no input", hint=_FORM)
        if name in shapes:
            raise UsageError(f"the shape of input {name!r} is given twice", hint="give each input one shape")
        shapes[name] = tuple(_parse_dim(dim.strip(), text) for dim in dims.split(",")) if dims.strip() else ()
    return shapes


def _parse_dim(text: str, shape: str) -> ShapeDim:
    if text == "?":
        return None
    if text.isascii() and text.isdigit():
        return _size(text, shape)
    if match := _RANGE.fullmatch(text):
        lowest, highest = match.groups()
        bounds = DimRange(_size(lowest, shape), _size(highest, shape) if highest else None)
        if bounds.maximum is not None and bounds.maximum < bounds.minimum:
            raise UsageError(f"shape {shape!r}: the range {text} is empty", hint="put the smaller size first")
        return bounds
    if _NAME.fullmatch(text) and (text[0] == "_" or text[0].isalpha()):
        return text
    raise UsageError(f"shape {shape!r}: {text!r} is no dim", hint=_FORM)


def _size(text: str, shape: str) -> int:
    size = int(text) if len(text) <= 10 else _LARGEST + 1
    if size > _LARGEST:
        raise UsageError(f"shape {shape!r}: the size {text} is larger than {_LARGEST}", hint="use a smaller size")
    return size
