"""JSON to frozen dataclasses, by their annotations, with errors that name the place and both types."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class DecodeError(ValueError):
    """A value of the wrong type, or a missing one; the message holds its path."""


def decode(kind: type[T], value: Any, where: str = "") -> T:
    """``value`` (parsed JSON) as a ``kind``.

    That is a dataclass, a plain type, ``tuple[X, ...]``, ``Mapping[str, X]`` or ``X | None``.

    A class with its own ``from_json`` reads itself. Unknown keys are ignored, so that a newer minor version of
    the format stays readable; a missing key takes the field's default. Raises DecodeError.
    """
    return typing.cast(T, _decode(kind, value, where))


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decode(next(k for k in arguments if k is not type(None)), value, where)
    if origin is tuple:
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(_check(list, value, where)))
    if origin is not None and issubclass(origin, Mapping):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in _check(dict, value, where).items()}
    if hasattr(kind, "from_json"):
        return _own(kind, _check(dict, value, where), where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type, kind), _check(dict, value, where), where)
    if kind is float and type(value) is int:
        return float(value)
    return _check(kind, value, where)


def _check(kind: type, value: Any, where: str) -> Any:
    # bool is a subclass of int: only the exact type will do.
    if type(value) is not kind:
        raise DecodeError(f"{where or 'the document'}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def _own(kind: Any, value: dict[str, Any], where: str) -> Any:
    try:
        return kind.from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"{where}: not a valid {kind.__name__}: {type(error).__name__}: {error}") from error


def _dataclass(kind: type, value: dict[str, Any], where: str) -> Any:
    found = {}
    for name, (hint, required) in _fields(kind).items():
        path = f"{where}.{name}" if where else name
        if name in value:
            found[name] = _decode(hint, value[name], path)
        elif required:
            raise DecodeError(f"{path}: missing")
    return kind(**found)


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    }
