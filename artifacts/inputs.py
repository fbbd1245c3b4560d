"""From the user's feeds to the compiled function's arguments: checked, and copied only where the memory must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm_ffi

from ..contract import Contract, DimRange, TensorSpec
from ..errors import InputError
from .dtypes import carrier, numpy_dtype
from .runtime import function

_MAX_KNOWN = 1024
_ANY = DimRange()
_NO_SHAPE = np.zeros(())
_NOTHING = np.zeros(1, np.uint8)


class _Unfit(Exception):
    """Something about the feeds is wrong; ``_problems`` finds the words."""


class InputBinder:
    """Binds feeds to one contract. ``view`` is the runtime's function (tensor, shape, dtype, offset) -> tensor.

    The common case, a writable C-contiguous array of the right dtype, costs a few comparisons and is passed as it
    is. Everything else goes through ``_convert``, which copies (strided, Fortran-ordered, byte-swapped, read-only,
    misaligned) or notes that something is wrong; then one InputError lists all of it.
    """

    def __init__(self, contract: Contract, view: Callable[..., Any]):
        self._contract = contract
        self._view = view
        self._list = function("ffi.List")
        self._dtypes = [numpy_dtype(spec.dtype) for spec in contract.inputs]
        self._carriers = [carrier(spec.dtype) for spec in contract.inputs]
        self._plan = [
            # No dtype is None: what needs a carrier, or is empty, always takes the slow way.
            (
                spec.name,
                dtype if carried is None and 0 not in spec.shape and not spec.sequence else None,
                _static(spec),
                index,
            )
            for index, (spec, dtype, carried) in enumerate(zip(contract.inputs, self._dtypes, self._carriers))
        ]
        self._symbols = [
            (dim, index, axis)
            for index, spec in enumerate(contract.inputs)
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        ]
        # Shapes of the inputs with open dims that have passed all checks.
        self._known: set[tuple[tuple[int, ...], ...]] = set()

    def bind(self, feeds: Mapping[str, Any]) -> tuple[list[Any], tuple[tuple[int, ...], ...]]:
        """The arguments in order, and the shapes of the inputs that have open dims. Raises InputError."""
        arguments: list[Any] = []
        shapes: list[tuple[int, ...]] = []
        try:
            for name, dtype, shape, index in self._plan:
                array = feeds[name]
                if (
                    type(array) is not np.ndarray
                    or array.dtype is not dtype
                    or not array.flags.carray
                    or (shape is None and 0 in array.shape)
                ):
                    array, argument = self._convert(array, index)
                    arguments.append(argument)
                else:
                    arguments.append(array)
                if shape is None:
                    shapes.append(array.shape)
                elif array.shape != shape:
                    raise _Unfit
            if len(feeds) != len(arguments):
                raise _Unfit
            key = tuple(shapes)
            if key and key not in self._known:
                self._learn(key, feeds)
            return arguments, key
        except (KeyError, TypeError, _Unfit):
            problems = self._problems(feeds)
            if not problems:
                raise
        expected = "; ".join(map(str, self._contract.inputs)) or "nothing"
        raise InputError(_message(problems), hint=f"give {expected}") from None

    def _learn(self, key: tuple[tuple[int, ...], ...], feeds: Mapping[str, Any]) -> None:
        if self._problems(feeds):
            raise _Unfit
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known.add(key)

    def _convert(self, value: Any, index: int) -> tuple[np.ndarray, Any]:
        """The value as an array of the right dtype, and as an argument."""
        spec = self._contract.inputs[index]
        if not spec.sequence:
            return self._convert_tensor(value, index)
        if not isinstance(value, (list, tuple)):
            raise _Unfit
        # Copies, as the list may outlive the call in a machine's registers.
        items = [self._convert_tensor(np.array(item), index)[1] for item in value]
        return _NO_SHAPE, self._list(*(tvm_ffi.from_dlpack(item) for item in items))

    def _convert_tensor(self, value: Any, index: int) -> tuple[np.ndarray, Any]:
        spec, dtype, carried = self._contract.inputs[index], self._dtypes[index], self._carriers[index]
        array = as_array(value)
        if array is None or array.dtype.newbyteorder("=") != dtype:
            raise _Unfit
        if not (array.flags.carray and array.dtype.isnative):
            array = np.array(array, dtype=dtype, order="C")
        if carried is None and array.size:
            return array, array
        # NumPy gives empty arrays strides of 0, which compiled code takes for a strided array.
        raw = tvm_ffi.from_dlpack(array.reshape(-1).view(carried or array.dtype) if array.size else _NOTHING)
        return array, self._view(raw, tvm_ffi.Shape(array.shape), tvm_ffi.dtype(spec.dtype), 0)

    def _problems(self, feeds: Any) -> list[str]:
        if not isinstance(feeds, Mapping):
            return [f"feeds must be a mapping from input names to arrays, found {type(feeds).__name__}"]
        names = [spec.name for spec in self._contract.inputs]
        problems = [f"missing input {name!r}" for name in names if name not in feeds]
        problems += [f"unknown input {name!r}" for name in feeds if name not in names]
        fitting: dict[str, np.ndarray] = {}
        for spec, dtype in zip(self._contract.inputs, self._dtypes):
            if spec.name in feeds:
                problem, array = _problem(spec, dtype, feeds[spec.name])
                if array is None:
                    problems.append(problem)
                else:
                    fitting[spec.name] = array
        return problems + self._dim_problems(fitting)

    def _dim_problems(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        problems = []
        first: dict[str, tuple[int, str]] = {}
        for dim, index, axis in self._symbols:
            name = self._contract.inputs[index].name
            if name not in arrays:
                continue
            size = arrays[name].shape[axis]
            place = f"axis {axis} of {name!r}"
            if dim not in first:
                first[dim] = size, place
                bounds = self._contract.dims.get(dim, _ANY)
                if size not in bounds:
                    problems.append(f"dim {dim!r} is {size} ({place}); the model was compiled for {bounds}")
            elif first[dim][0] != size:
                problems.append(f"dim {dim!r} is {first[dim][0]} ({first[dim][1]}) and {size} ({place})")
        return problems


def as_array(value: Any) -> np.ndarray | None:
    """Arrays, NumPy scalars, and CPU tensors of other libraries (DLPack) as arrays; None for anything else."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            return None
    return None


def _static(spec: TensorSpec) -> tuple[int, ...] | None:
    return spec.shape if all(type(dim) is int for dim in spec.shape) else None  # type: ignore[return-value]


def _message(problems: list[str]) -> str:
    return problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} things are wrong:", *problems])


def _problem(spec: TensorSpec, dtype: np.dtype, value: Any) -> tuple[str, np.ndarray | None]:
    """What is wrong with one input, or the array."""
    if spec.sequence:
        return _sequence_problem(spec, dtype, value)
    array = as_array(value)
    if array is None:
        return f"input {spec.name!r} must be a NumPy array, found {type(value).__name__}", None
    if array.dtype.newbyteorder("=") != dtype:
        return f"input {spec.name!r} must have dtype {spec.dtype}, found {array.dtype}", None
    found = f"found {list(array.shape)}"
    wanted = f"[{', '.join(map(str, spec.shape))}]"
    if array.ndim != len(spec.shape):
        return f"input {spec.name!r} must have rank {len(spec.shape)}, shape {wanted}, {found}", None
    if any(type(dim) is int and dim != size for dim, size in zip(spec.shape, array.shape)):
        return f"input {spec.name!r} must have shape {wanted}, {found}", None
    return "", array


def _sequence_problem(spec: TensorSpec, dtype: np.dtype, value: Any) -> tuple[str, np.ndarray | None]:
    if not isinstance(value, (list, tuple)):
        return f"input {spec.name!r} must be a list of arrays, found {type(value).__name__}", None
    for index, item in enumerate(value):
        array = as_array(item)
        if array is None or array.dtype.newbyteorder("=") != dtype:
            found = type(item).__name__ if array is None else array.dtype
            return f"input {spec.name!r} must hold arrays of dtype {spec.dtype}, found {found} at {index}", None
    return "", _NO_SHAPE
